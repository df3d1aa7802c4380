package main

import "meterline/cmd/launch"

type configCmd struct {
	Print configPrintCmd `cmd:"" help:"Prints an environment file of all that serve can be told, with comments, at its defaults."`
}

type configPrintCmd struct{}

// Run prints it on standard output.
func (configPrintCmd) Run(p *program) error {
	return launch.Example(p.stdout, &commands{}, "backend", "serve")
}
