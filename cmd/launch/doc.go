// Package launch is what the programs of cmd/ share: flags that are also environment variables, errors that become one line
// and an exit status, and teardown in reverse order under one deadline.
package launch
