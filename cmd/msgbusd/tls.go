package main

import (
	"log"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/httpapi"
)

// tlsFiles are those of the listeners, and of what is dialled.
type tlsFiles struct{ public, admin, browsers, peers httpapi.TLSFiles }

func tlsFlags() []cli.Flag {
	file := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Category: groupTLS, EnvVars: variable(name), Usage: usage}
	}
	return []cli.Flag{
		file("tls-cert", "PEM `FILE` with the certificate to serve --listen over TLS, and what stands between it and its authority"),
		file("tls-key", "PEM `FILE` with its key, which nobody but its owner may read"),
		file("tls-client-ca", "PEM `FILE` of authorities: who shows no certificate of theirs is refused (default nobody has to)"),
		file("admin-tls-cert", "the same for --admin-listen: `FILE` with its certificate"),
		file("admin-tls-key", "`FILE` with its key"),
		file("admin-tls-client-ca", "`FILE` of its clients' authorities"),
		file("gateway-tls-cert", "the same for --gateway-listen: `FILE` with its certificate"),
		file("gateway-tls-key", "`FILE` with its key"),
		file("gateway-tls-client-ca", "`FILE` of its clients' authorities"),
		file("peer-ca", "PEM `FILE` of authorities that certify relays at https://; believed instead of the system's"),
		file("peer-cert", "PEM `FILE` with the certificate to show to relays that ask for one"),
		file("peer-key", "PEM `FILE` with its key, which nobody but its owner may read"),
	}
}

// readTLS checks that what belongs together is given together.
func readTLS(c *cli.Context) (files tlsFiles, err error) {
	for _, side := range []struct {
		into                  *httpapi.TLSFiles
		certificate, key, ca  string
		caWithoutACertificate bool
	}{
		{&files.public, "tls-cert", "tls-key", "tls-client-ca", false},
		{&files.admin, "admin-tls-cert", "admin-tls-key", "admin-tls-client-ca", false},
		{&files.browsers, "gateway-tls-cert", "gateway-tls-key", "gateway-tls-client-ca", false},
		{&files.peers, "peer-cert", "peer-key", "peer-ca", true},
	} {
		f := httpapi.TLSFiles{Certificate: c.String(side.certificate), Key: c.String(side.key), Authorities: c.String(side.ca), CheckKey: checkPrivate}
		switch {
		case f.Certificate == "" && f.Key != "":
			return files, configError("--%s is given without --%s", side.key, side.certificate)
		case f.Certificate != "" && f.Key == "":
			return files, configError("--%s is given without --%s", side.certificate, side.key)
		case f.Authorities != "" && f.Certificate == "" && !side.caWithoutACertificate:
			return files, withHint(configError("--%s is given without --%s", side.ca, side.certificate), "only a listener that speaks TLS can ask for certificates")
		}
		*side.into = f
	}
	return files, nil
}

// A secured is what tlsFiles hold; each is nil where there are none.
type secured struct{ public, admin, browsers, peers *httpapi.TLS }

func openTLS(files tlsFiles, log zerolog.Logger) (s secured, err error) {
	for _, side := range []struct {
		what  string
		files httpapi.TLSFiles
		into  **httpapi.TLS
	}{
		{"--listen", files.public, &s.public},
		{"--admin-listen", files.admin, &s.admin},
		{"--gateway-listen", files.browsers, &s.browsers},
		{"other relays", files.peers, &s.peers},
	} {
		if side.files.Certificate == "" && side.files.Authorities == "" {
			continue
		}
		if *side.into, err = httpapi.OpenTLS(side.files, log.With().Str("for", side.what).Logger()); err != nil {
			return s, configError("TLS for %s: %w", side.what, err)
		}
	}
	return s, nil
}

// complaints are what net/http has to say, chiefly of handshakes that strangers
// did not finish. They must not fill the disk with lines.
type complaints struct{ log zerolog.Logger }

func errorLog(l zerolog.Logger) *log.Logger {
	return log.New(complaints{l.Sample(&zerolog.BurstSampler{Burst: 20, Period: time.Second})}, "", 0)
}

func (c complaints) Write(line []byte) (int, error) {
	const most = 300 // a stranger's certificate may be quoted in it
	text := strings.ToValidUTF8(strings.TrimSpace(string(line[:min(len(line), most)])), "")
	c.log.Info().Str("detail", text).Msg("http server")
	return len(line), nil
}
