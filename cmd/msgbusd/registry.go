package main

import (
	"net"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/twin"
)

func registryCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "registry",
		Usage: "serve twin records from a file, for private fleets and tests",
		UsageText: "msgbusd registry --file twins.json --listen 127.0.0.1:8050\n\n" +
			`   twins.json: [{"id":1001,"account":"5…","ip":"127.0.0.1:8151"}]; it is read again when it changes`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Required: true, Usage: "`FILE` of records"},
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8050", Usage: "`ADDRESS` to serve on"},
			&cli.StringFlag{Name: "log-level", Value: "info", Usage: "`LEVEL`: debug, info, warn, error, fatal or panic"},
			&cli.StringFlag{Name: "log-format", Value: "console", Usage: "`FORMAT`: console or json"},
		},
		Action: func(c *cli.Context) error {
			log, err := newLog(s.err, c.String("log-level"), c.String("log-format"))
			if err != nil {
				return err
			}
			registry, err := twin.NewRegistry(c.String("file"), log)
			if err != nil {
				return exitCode{exitConfig, err}
			}
			l, err := net.Listen("tcp", c.String("listen"))
			if err != nil {
				return err
			}
			log.Info().Str("listen", l.Addr().String()).Str("file", c.String("file")).Msg("serving twin records")
			notify("READY=1")
			return serveHTTP(c.Context, l, registry, log)
		},
	}
}
