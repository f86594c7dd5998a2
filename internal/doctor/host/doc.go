// Package host gathers the facts that package doctor judges, and does what its findings
// offer to do. It looks at the host itself, not through the agent, wherever it can: the
// agent may be what is broken. It changes nothing while it looks.
package host
