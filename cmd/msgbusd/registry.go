package main

import (
	"fmt"
	"net"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/twin"
)

func registryCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "registry",
		Usage:     "serve twin records from a file, for private fleets and tests",
		UsageText: "msgbusd registry --file twins.json [--listen 127.0.0.1:8050] [options]",
		Description: `twins.json: [{"id":1001,"account":"5…","ip":"127.0.0.1:8151"}]; msgbusd key show prints the account` + "\n" +
			"of a key. An ip may be a list, with commas or spaces, of up to 8 relays that share a Redis. The file\n" +
			"is read again when it changes; while it has a mistake, the records before it are served, and the log\n" +
			"says why. Relays use it with --substrate http://127.0.0.1:8050.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "file", Usage: "`FILE` of records"},
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8050", Usage: "`ADDRESS` to serve on"},
		}, logFlags("info")...),
		Action: func(c *cli.Context) error { return serveRegistry(c, s) },
	}
}

func serveRegistry(c *cli.Context, s streams) error {
	if c.Args().Present() {
		return usageError("registry takes no arguments")
	}
	if c.String("file") == "" {
		return withHint(usageError("--file is missing"), "%s", c.Command.UsageText)
	}
	log, err := newLog(c, s.err)
	if err != nil {
		return err
	}
	registry, err := twin.NewRegistry(c.String("file"), log)
	if err != nil {
		return exitCode{exitConfig, err}
	}
	l, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return withHint(fmt.Errorf("listen for relays: %w", err), "is another registry running? --listen takes another address")
	}
	log.Info().Str("listen", l.Addr().String()).Str("file", c.String("file")).Msg("serving twin records")
	notify("READY=1")
	return serveHTTP(c.Context, l, registry, log)
}
