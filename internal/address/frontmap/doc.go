// Package frontmap owns what the agent and a front say to each other. The agent
// stores a map: which containers are current. The front leaves marks in the
// kernel: which map it applied, and where those containers were.
//
// Invariants:
//   - A map names containers and never addresses. An address outlives the
//     container it belonged to, and Docker gives it to the next one: a front that
//     remembered one would hand a published port to a stranger.
//   - A reader sees one whole map or the one before it.
//   - A map may be announced: it lies beside the one in force, and means nothing but that
//     its targets are worth looking for. It comes into force by one rename, or never.
//   - A map that is not understood to the last field is an error: a front keeps
//     what it has rather than act on half an order.
//   - An empty list of targets is an order, to refuse. It is not the same as no map.
//   - It holds no secret: everyone may read it.
//
// The package is linked into dso-front, so it imports nothing heavy.
package frontmap
