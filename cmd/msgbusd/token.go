package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/gateway"
)

func tokenCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "token",
		Usage:     "make a token with which a browser gets events from the gateway",
		UsageText: "msgbusd token --secret-file FILE [--user USER] [--topic PATTERN …] [options]",
		Description: "Whoever has the token may hear what it says until it expires, and it cannot be taken back: make it\n" +
			"short, and for one user. An app makes its own, with the same secret.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "secret-file", EnvVars: variable("gateway-secret-file"),
				Usage: "`FILE` with the secret, that of the relay's --gateway-secret-file"},
			&cli.StringFlag{Name: "user", Usage: "`USER` that it is for"},
			&cli.StringSliceFlag{Name: "topic", Usage: "`PATTERN` of topics that may be heard; repeatable"},
			&cli.StringSliceFlag{Name: "publish", Usage: "`PATTERN` of topics under which events may be published; repeatable"},
			&cli.BoolFlag{Name: "single", Usage: "a new session of the user ends all older ones"},
			&cli.DurationFlag{Name: "expires", Value: time.Hour, Usage: "`TIME` after which it is good no more"},
		},
		Action: func(c *cli.Context) error { return makeToken(c, s) },
	}
}

func makeToken(c *cli.Context, s streams) error {
	switch {
	case c.Args().Present():
		return withHint(usageError("token takes no arguments"), "%s", c.Command.UsageText)
	case c.Duration("expires") < time.Second:
		return usageError("--expires must be 1s or more")
	}
	secret, err := readGatewaySecret(c, "secret-file")
	if err != nil {
		return err
	}
	token, err := gateway.Mint(secret, gateway.Claims{
		User: c.String("user"), Topics: c.StringSlice("topic"), Publish: c.StringSlice("publish"), Single: c.Bool("single"),
		Expires: time.Now().Add(c.Duration("expires")).Unix(),
	})
	if err != nil {
		return exitCode{exitUsage, err}
	}
	_, err = fmt.Fprintln(s.out, token)
	return err
}
