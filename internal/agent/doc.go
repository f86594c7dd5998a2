// Package agent is the composition root of dso-agent: it opens the state, wires
// the packages together and runs them until it is told to stop.
//
// Invariants:
//   - The runtime's socket is served before anything that needs the engine: at
//     boot the engine may be silent until the containers it waits for have
//     started, and those wait for the agent.
//   - One agent per state directory, run directory and engine; the kernel's locks
//     say which. Nothing is changed in an engine without its lock.
//   - Stopping parks what runs at a step boundary and returns when all is quiet.
package agent
