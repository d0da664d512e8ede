package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

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

// readSecretFile refuses a file that others can read.
func readSecretFile(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", withHint(configError("the file with the key: %w", err), "--mnemonics-file names it; it holds the phrase and nothing else")
	}
	defer file.Close()
	if err := checkPrivate(file); err != nil {
		return "", err
	}
	const most = 4 << 10
	text, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return "", configError("the file with the key: %w", err)
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		return "", withHint(configError("the file with the key, %s, is empty", name), "it holds the phrase and nothing else")
	}
	return strings.TrimSpace(string(text)), nil
}

// checkPrivate makes sure that nobody but its owner can read a file. systemd's
// credentials are 0440, in a folder that only the unit sees.
func checkPrivate(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return configError("%w", err)
	}
	if info.IsDir() {
		return configError("%s is a folder, not a file with the key", file.Name())
	}
	forbidden := fs.FileMode(0o077)
	if credentials := os.Getenv("CREDENTIALS_DIRECTORY"); credentials != "" && filepath.Dir(file.Name()) == filepath.Clean(credentials) {
		forbidden = 0o037
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return withHint(configError("others than its owner can read the key in %s (mode %#o)", file.Name(), mode), "chmod 600 %s", file.Name())
	}
	return nil
}

// secretOnCommandLine tells whether ps shows the key.
func secretOnCommandLine(c *cli.Context) bool {
	return slices.ContainsFunc(c.LocalFlagNames(), func(name string) bool { return name == "mnemonics" || name == "menmonics" })
}

// secretWarning is said once by everything that signs.
const secretWarning = "ps shows the key given by --mnemonics to everybody on this machine; --mnemonics-file does not"
