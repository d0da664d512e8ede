package fleettest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// TransferPath is where relays post transfers.
const TransferPath = "/zbus-transfer"

// A Transfer is a POST of version 2 between relays, made from its description in
// httpapi/transfer/testdata/README.md and not by the code under test.
type Transfer struct {
	Source, Destination uint32
	Epoch               string // of its requests
	Encoding            string
	Created             time.Time
	Nonce               string
	Body                string
}

// Transfer is one from this twin to twin dst's relay, with a nonce of its own.
func (p *Person) Transfer(dst uint32, lines ...string) Transfer {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	return Transfer{
		Source: p.ID, Destination: dst, Epoch: "5218", Encoding: "identity", Created: time.Now(),
		Nonce: base64.RawURLEncoding.EncodeToString(nonce), Body: strings.Join(lines, ""),
	}
}

// RequestLine is a request of Wire as a line of a transfer.
func RequestLine(m Message) string {
	return fmt.Sprintf("{\"request\":%s}\n", m.With("epoch", "5218"))
}

// ReplyLine is a reply as a line of a transfer.
func ReplyLine(m Message) string { return fmt.Sprintf("{\"reply\":%s}\n", m) }

// SignTransfer returns the header fields of a transfer with this twin's signature.
func (p *Person) SignTransfer(t Transfer) http.Header {
	digest := sha256.Sum256([]byte(t.Body))
	const components = `("@method" "@path" "content-digest" "content-encoding" "content-type" "msgbus-source" "msgbus-destination" "msgbus-epoch" "msgbus-seal")`
	parameters := fmt.Sprintf(`%s;created=%d;nonce="%s";keyid="%d";tag="msgbus-transfer"`, components, t.Created.Unix(), t.Nonce, t.Source)
	header := http.Header{}
	base := `"@method": POST` + "\n" + `"@path": ` + TransferPath + "\n"
	for _, field := range [][2]string{
		{"Content-Digest", "sha-256=:" + base64.StdEncoding.EncodeToString(digest[:]) + ":"},
		{"Content-Encoding", t.Encoding},
		{"Content-Type", "application/x-ndjson"},
		{"Msgbus-Source", fmt.Sprint(t.Source)},
		{"Msgbus-Destination", fmt.Sprint(t.Destination)},
		{"Msgbus-Epoch", t.Epoch},
		{"Msgbus-Seal", "none"},
	} {
		header.Set(field[0], field[1])
		base += fmt.Sprintf("%q: %s\n", strings.ToLower(field[0]), field[1])
	}
	signature := p.Identity.Sign([]byte(base + `"@signature-params": ` + parameters))
	header.Set("Signature-Input", "msgbus="+parameters)
	header.Set("Signature", "msgbus=:"+base64.StdEncoding.EncodeToString(signature)+":")
	return header
}
