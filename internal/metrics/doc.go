// Package metrics counts what the agent does, for Prometheus.
//
// Each component has a struct of its own, which is all that it knows of this
// package; New registers them in one registry. Nothing is global. The agent alone
// links it: the plugin and the runtime have to start in milliseconds.
package metrics
