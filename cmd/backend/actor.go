package main

import (
	"os"
	"os/user"

	"meterline/fleet"
)

// commandLine is whoever runs the program, as the audit log names it: the account, and the machine. What the system does not
// tell stays unknown.
func commandLine(tenant fleet.Tenant) fleet.Actor {
	account := "unknown"
	if u, err := user.Current(); err == nil {
		account = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fleet.System(tenant, "command line", account, host)
}
