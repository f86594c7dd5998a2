package cli

import "os"

// credentialsVariable is where systemd says what it gave a service, and agentCredentials
// what it gave the agent: what dso.yaml names by token_credential and the like is there.
const (
	credentialsVariable = "CREDENTIALS_DIRECTORY"
	agentCredentials    = "/run/credentials/dso-agent.service"
)

// useAgentCredentials lets the configuration mean here what it means to the agent.
func useAgentCredentials() {
	if os.Getenv(credentialsVariable) != "" {
		return
	}
	if _, err := os.Stat(agentCredentials); err == nil {
		_ = os.Setenv(credentialsVariable, agentCredentials)
	}
}
