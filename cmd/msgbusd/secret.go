package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/internal/redisconn"
	"github.com/msgbusd/msgbusd/twin"
)

// readIdentity derives the key from the secret, wherever that is. Nothing of
// the secret gets into an error.
func readIdentity(c *cli.Context) (*twin.Identity, error) {
	kt, err := readKeyType(c)
	if err != nil {
		return nil, err
	}
	secret, source, err := readSecret(c)
	if err != nil {
		return nil, err
	}
	identity, err := twin.NewIdentity(secret, kt)
	if err != nil {
		return nil, withHint(configError("the secret in %s: %w", source, err), "msgbusd key new makes a good one")
	}
	return identity, nil
}

var keyTypes = []string{"sr25519", "ed25519"}

func readKeyType(c *cli.Context) (twin.KeyType, error) {
	kt, err := twin.ParseKeyType(c.String("key-type"))
	if err != nil {
		return 0, configError("--key-type %q is neither sr25519 nor ed25519", c.String("key-type"))
	}
	return kt, nil
}

// readSecret returns the secret, and where it was found.
func readSecret(c *cli.Context) (secret, source string, err error) {
	secret, misspelt, file := c.String("mnemonics"), c.String("menmonics"), c.String("mnemonics-file")
	if secret == "" {
		secret = misspelt
	}
	switch {
	case secret != "" && file != "":
		return "", "", withHint(configError("the key is given twice: by --mnemonics (or MSGBUSD_MNEMONICS) and by --mnemonics-file"), "leave --mnemonics out")
	case secret != "":
		return secret, "--mnemonics", nil
	case file != "":
		secret, err = readSecretFile(file)
		return secret, file, err
	}
	return "", "", withHint(configError("no key is given"),
		"--mnemonics-file FILE names it; (umask 077; msgbusd key new --phrase-only > FILE) makes one")
}

// readSecretFile reads the file with the key.
func readSecretFile(name string) (string, error) {
	return readPrivate(name, "the file with the key", "--mnemonics-file names it; it holds the phrase and nothing else")
}

// readPrivate refuses a file that others can read.
func readPrivate(name, what, hint string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", withHint(configError("%s: %w", what, unnamed(err)), "%s", hint)
	}
	defer file.Close()
	if err := checkPrivate(file); err != nil {
		return "", err
	}
	const most = 4 << 10
	text, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return "", configError("%s: %w", what, err)
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		return "", withHint(configError("%s, %s, is empty", what, name), "%s", hint)
	}
	return strings.TrimSpace(string(text)), nil
}

// unnamed takes the name of a file out of an error, if it looks as if somebody had
// given the secret itself in its place.
func unnamed(err error) error {
	var about *fs.PathError
	if errors.As(err, &about) && looksSecret(about.Path) {
		return fmt.Errorf("%s what looks more like a secret than like a file's name: %w", about.Op, about.Err)
	}
	return err
}

func looksSecret(name string) bool {
	return len(strings.Fields(name)) > 2 || strings.HasPrefix(name, "0x") || strings.Contains(name, "://")
}

// checkPrivate makes sure that nobody but its owner can read a file. systemd's
// credentials are 0440, in a folder that only the unit sees. A symbolic link is
// followed, and what it leads to is judged, by the file that is open already. Who
// the owner is does not matter: a file of another one that is private to him
// cannot be opened, and in a container root's files may be nobody's.
func checkPrivate(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return configError("%w", err)
	}
	if info.IsDir() {
		return configError("%s is a folder, not a file with a secret", file.Name())
	}
	forbidden := fs.FileMode(0o077)
	if credentials := os.Getenv("CREDENTIALS_DIRECTORY"); credentials != "" && filepath.Dir(file.Name()) == filepath.Clean(credentials) {
		forbidden = 0o037
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return withHint(configError("others than its owner can read the secret in %s (mode %#o)", file.Name(), mode), "chmod 600 %s", file.Name())
	}
	return nil
}

// shownByPS returns a warning for each secret that the command line gives away.
func shownByPS(c *cli.Context) (warnings []string) {
	given := onCommandLine(c)
	for _, option := range []string{"mnemonics", "menmonics"} {
		if slices.Contains(given, option) {
			warnings = append(warnings, "ps shows the key given by --mnemonics to everybody on this machine; --mnemonics-file does not")
		}
	}
	for _, option := range addressOptions {
		if slices.Contains(given, option) && slices.ContainsFunc(addresses(c, option), hasPassword) {
			warnings = append(warnings, fmt.Sprintf("ps shows the password given by --%s to everybody on this machine; %s and --config do not", option, variable(option)[0]))
		}
	}
	return warnings
}

// onCommandLine names the options that were given there. The library would add
// those that were given by their variables, which ps shows to their owner only, for
// the flags of a command; the copy has none.
func onCommandLine(c *cli.Context) []string {
	bare := *c
	bare.Command = &cli.Command{}
	return bare.LocalFlagNames()
}

// addressOptions are those whose values may hold a password.
var addressOptions = [...]string{"redis", "substrate", "otlp-endpoint"}

// addresses returns what one of them names.
func addresses(c *cli.Context, option string) []string {
	if list, isList := c.Value(option).(cli.StringSlice); isList {
		return redisconn.Join(list.Value())
	}
	return []string{c.String(option)}
}

// hasPassword tells whether an address has one in it, or a user, which may be a
// token. What cannot be read is taken to have one.
func hasPassword(address string) bool {
	if !strings.Contains(address, "@") && !strings.Contains(address, "password=") {
		return false
	}
	u, _, err := redisconn.ParseHosts(address)
	return err != nil || u.User != nil || u.Host == "" || strings.Contains(u.RawQuery, "password=")
}

// shownAddress returns an address as its operator may see it, whatever stands in
// it, or "" if all of it may be a secret.
func shownAddress(address string) string {
	secret := hasPassword(address)
	if !secret && !strings.ContainsAny(address, "?#") {
		return address
	}
	u, hosts, err := redisconn.ParseHosts(address)
	if err != nil || secret && u.User == nil && u.RawQuery == "" {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	if len(hosts) > 1 {
		u.Host = strings.Join(hosts, ",")
	}
	return u.String()
}

// withoutPassword returns an address as it may be logged.
func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "(no URL)"
	}
	u.User = nil
	return u.String()
}

// withoutPasswords returns a list of addresses as it may be logged.
func withoutPasswords(addresses []string) string {
	shown := make([]string, 0, len(addresses))
	for _, a := range addresses {
		shown = append(shown, withoutPassword(a))
	}
	return strings.Join(shown, ", ")
}
