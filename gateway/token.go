package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	strict "github.com/go-json-experiment/json"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Claims are what a token says of who shows it.
type Claims struct {
	// User is who it is: words of letters, digits, `_`, `-`, `:` and `@` with dots between
	// them, 128 bytes at most. "": nobody in particular.
	User string `json:"user,omitzero"`
	// Topics are patterns of topics that may be heard, 50 at most.
	Topics []string `json:"topics,omitzero"`
	// Publish are patterns of topics under which events may be published, 50 at most.
	Publish []string `json:"publish,omitzero"`
	// Single: when a session with this token begins, all older ones of the user end.
	Single bool `json:"single,omitzero"`
	// Expires is when the token and what it has opened end, in unix seconds.
	Expires int64 `json:"exp"`
}

// Bounds of a token.
const (
	// LeastSecret is how many bytes the secret that signs tokens must have.
	LeastSecret   = 32
	maxToken      = 4 << 10 // bytes: it must fit into the head of a request
	maxUser       = 128     // bytes
	maxClaimed    = 50      // patterns of each kind
	latestExpires = 253402300799
)

// Mint makes a token, `<base64url of the claims in JSON>.<base64url of its HMAC-SHA256>`,
// without padding. The secret is that of the gateway, as it stands in the file of
// --gateway-secret-file. Errors are about the secret and the claims.
func Mint(secret []byte, c Claims) (string, error) {
	if err := checkSecret(secret); err != nil {
		return "", err
	}
	if err := c.check(); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	body := base64.RawURLEncoding.EncodeToString(text)
	token := body + "." + base64.RawURLEncoding.EncodeToString(sign(secret, body))
	if len(token) > maxToken {
		return "", fmt.Errorf("make a token: it has %d bytes, at most %d are taken; name fewer topics, or patterns of them", len(token), maxToken)
	}
	return token, nil
}

func checkSecret(secret []byte) error {
	if len(secret) < LeastSecret {
		return fmt.Errorf("the secret has %d bytes, and must have %d: who guesses it makes tokens", len(secret), LeastSecret)
	}
	return nil
}

func sign(secret []byte, body string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(body))
	return mac.Sum(nil)
}

// base64 of one text has one form: a token has none beside the one that was made.
var tokenEncoding = base64.RawURLEncoding.Strict()

// readToken returns what a token says, if it is good now. Nothing of it is looked at
// before its signature has been.
func readToken(secret []byte, token string, now time.Time) (Claims, *refusal) {
	if token == "" {
		return Claims{}, refuse(NoToken, "there is no token: Authorization: Bearer …, ?token=…, or the subprotocol %s…", tokenProtocol)
	}
	bad := refuse(BadToken, "the token is not one of this gateway")
	body, signature, found := strings.Cut(token, ".")
	// The decoder leaves out line ends, wherever they are.
	if !found || len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return Claims{}, bad
	}
	given, err := tokenEncoding.DecodeString(signature)
	if err != nil || !hmac.Equal(given, sign(secret, body)) {
		return Claims{}, bad
	}
	// From here on it is what some app has made, and may be told what is wrong with it.
	text, err := tokenEncoding.DecodeString(body)
	if err != nil {
		return Claims{}, refuse(BadToken, "the claims of the token are not base64url without padding")
	}
	var c Claims
	// A claim that is not known may be one that restricts: a token with it is not ours to
	// take. Names in another case and names that come twice are refused by the decoder.
	if err := strict.Unmarshal(text, &c, strict.RejectUnknownMembers(true)); err != nil {
		return Claims{}, refuse(BadToken, "the claims of the token cannot be read, or have a member that is not known")
	}
	if err := c.check(); err != nil {
		return Claims{}, refuse(BadToken, "the token is wrong: %s", err)
	}
	if !now.Before(c.end()) {
		return Claims{}, refuse(TokenExpired, "the token has expired: ask the app for another")
	}
	return c, nil
}

func (c *Claims) end() time.Time { return time.Unix(c.Expires, 0) }

// check tells whether the claims make sense.
func (c *Claims) check() error {
	switch {
	case c.Expires <= 0 || c.Expires > latestExpires:
		return errors.New("exp must say when it ends, in unix seconds")
	case c.User != "" && !validUser(c.User):
		return fmt.Errorf("user %q: words of letters, digits, _, -, : and @ with dots between them, %d bytes at most", clip(c.User), maxUser)
	case c.User == "" && c.Single:
		return errors.New("single is of a user, and there is none")
	case c.User == "" && len(c.Topics) == 0 && len(c.Publish) == 0:
		return errors.New("it is for nothing: neither a user nor topics are in it")
	case len(c.Topics) > maxClaimed || len(c.Publish) > maxClaimed:
		return fmt.Errorf("there are more than %d patterns", maxClaimed)
	}
	for _, patterns := range [][]string{c.Topics, c.Publish} {
		for _, p := range patterns {
			if !msgbus.ValidPattern(p) {
				return fmt.Errorf("%q is no pattern of topics", clip(p))
			}
		}
	}
	return nil
}

// validUser tells whether there can be topics and names of a user.
func validUser(user string) bool {
	return len(user) <= maxUser && !strings.Contains(user, "/") && msgbus.ValidTopic(user)
}

// clip shortens a text that somebody else chose.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
