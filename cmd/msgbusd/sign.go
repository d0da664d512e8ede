package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func signCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "sign",
		Usage:     "print a signed request for the /zbus-cmd of another relay",
		UsageText: "msgbusd sign --src 1001 --dst 1002 --mnemonics-file FILE [options] COMMAND [DATA|-]",
		Description: "For calls without Redis: pipe it into curl --data-binary @- http://HOST:8051/zbus-cmd. What comes\n" +
			"back is the body for /zbus-result?wait=10s, where the answer will be.\n\n" +
			"The signature is good for a minute, and once.",
		Flags: append([]cli.Flag{
			&cli.UintFlag{Name: "src", Usage: "`TWIN` that the key belongs to"},
			&cli.UintFlag{Name: "dst", Usage: "`TWIN` whose relay gets the request"},
			expFlag(),
		}, secretFlags()...),
		Action: func(c *cli.Context) error { return sign(c, s) },
	}
}

func sign(c *cli.Context, s streams) error {
	m, err := newRequest(c, s)
	if err != nil {
		return err
	}
	src, err := twinIDs("src", c.Uint("src"))
	if err != nil {
		return err
	}
	if m.Destinations, err = twinIDs("dst", c.Uint("dst")); err != nil {
		return err
	}
	id, err := readIdentity(c)
	if err != nil {
		return err
	}
	m.Source, m.Proxied = src[0], true
	challenge := m.Challenge()
	m.Signature = fmt.Sprintf("%x", id.Sign(challenge[:]))
	_, err = fmt.Fprintf(s.out, "%s\n", m.AppendWire(nil))
	return err
}
