package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/twin"
)

func keyCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:        "key",
		Usage:       "make a key, or show which account a key has",
		UsageText:   "msgbusd key new [options]\n  msgbusd key show [options]",
		Subcommands: []*cli.Command{keyNewCommand(s), keyShowCommand(s)},
		Action: func(c *cli.Context) error {
			return withHint(usageError("key needs to know what to do"), "msgbusd key new, or msgbusd key show")
		},
	}
}

func keyNewCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "new",
		Usage:     "make a key and print its phrase, account and public key",
		UsageText: "msgbusd key new [options]\n  (umask 077; msgbusd key new --phrase-only > mnemonic)",
		Description: "The phrase is the key: whoever has it signs for the twin, and nobody can restore it. The account\n" +
			"is what the twin is registered with.",
		Flags: []cli.Flag{
			keyTypeFlag(nil),
			&cli.BoolFlag{Name: "phrase-only", Usage: "print the phrase and nothing else"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError("key new takes no arguments")
			}
			kt, err := readKeyType(c)
			if err != nil {
				return err
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
	}
}

func keyShowCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "print the account and public key of a phrase",
		UsageText: "msgbusd key show --mnemonics-file FILE [options]",
		Flags:     append(secretFlags(), &cli.BoolFlag{Name: "json", Usage: "print JSON"}),
		Action: func(c *cli.Context) error {
			if c.Args().Present() { // not repeated: it may be the phrase
				return withHint(usageError("key show takes no arguments"), "--mnemonics-file FILE says where the phrase is")
			}
			id, err := readIdentity(c)
			if err != nil {
				return err
			}
			return printKey(s, c.Bool("json"), "", id)
		},
	}
}

// printKey prints a key; the phrase only when it has just been made.
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
