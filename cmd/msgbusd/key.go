package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/twin"
)

func keyCommand(s streams) *cli.Command {
	asJSON := &cli.BoolFlag{Name: "json", Usage: "print JSON"}
	return &cli.Command{
		Name:  "key",
		Usage: "make a key, or show what a key's account is",
		Subcommands: []*cli.Command{
			{
				Name:      "new",
				Usage:     "make a key and print its phrase, account and public key",
				UsageText: "(umask 077; msgbusd key new --phrase-only > mnemonic)",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "key-type", Value: "sr25519", Usage: "`TYPE` of the key: sr25519 or ed25519"},
					&cli.BoolFlag{Name: "phrase-only", Usage: "print the phrase and nothing else"},
					asJSON,
				},
				Action: func(c *cli.Context) error {
					kt, err := twin.ParseKeyType(c.String("key-type"))
					if err != nil {
						return exitCode{exitUsage, err}
					}
					phrase, id, err := twin.Generate(kt)
					if err != nil {
						return err
					}
					if c.Bool("phrase-only") {
						_, err := fmt.Fprintln(s.out, phrase)
						return err
					}
					return printKey(s, c.Bool("json"), phrase, id)
				},
			},
			{
				Name:  "show",
				Usage: "print the account and public key of a phrase",
				Flags: append(secretFlags(), asJSON),
				Action: func(c *cli.Context) error {
					id, err := readIdentity(c)
					if err != nil {
						return err
					}
					return printKey(s, c.Bool("json"), "", id)
				},
			},
		},
	}
}

func printKey(s streams, asJSON bool, phrase string, id *twin.Identity) error {
	key := id.PublicKey()
	if asJSON {
		return json.NewEncoder(s.out).Encode(struct {
			Phrase    string `json:"phrase,omitempty"`
			Type      string `json:"type"`
			Account   string `json:"account"`
			PublicKey string `json:"public_key"`
		}{phrase, id.KeyType().String(), id.Account(), hex.EncodeToString(key[:])})
	}
	if phrase != "" {
		fmt.Fprintf(s.out, "phrase      %s\n", phrase)
	}
	_, err := fmt.Fprintf(s.out, "type        %s\naccount     %s\npublic key  %s\n", id.KeyType(), id.Account(), hex.EncodeToString(key[:]))
	return err
}
