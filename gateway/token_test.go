package gateway_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/gateway"
)

var (
	secret = []byte("0123456789abcdef0123456789abcdef")
	now    = time.Unix(1_800_000_000, 0)
)

// signed is a token of an app in another language, whatever stands in it.
func signed(claims string) string {
	body := base64.RawURLEncoding.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(body))
	return body + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func mint(t testing.TB, c gateway.Claims) string {
	t.Helper()
	token, err := gateway.Mint(secret, c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A page is let in, and hears what its token was not made for.
func TestATokenSaysWhatItWasMadeToSay(t *testing.T) {
	for _, c := range []gateway.Claims{
		{User: "666", Topics: []string{"srv_msg", "user.666"}, Publish: []string{"chat.*"}, Single: true, Expires: now.Unix() + 60},
		{Topics: []string{"news.#"}, Expires: now.Unix() + 1},
		{User: "a.b@c:d", Expires: now.Unix() + 1},
	} {
		got, why := gateway.ReadToken(secret, mint(t, c), now)
		if why != "" || !reflect.DeepEqual(got, c) {
			t.Errorf("%+v is read as %+v, %s", c, got, why)
		}
	}
}

// An app in another language makes tokens that are not taken, after an upgrade of the relay.
// This one was made with: printf '{"user":"666","topics":["user.666"],"exp":1900000000}' |
// basenc --base64url -w0 | tr -d =, and openssl dgst -sha256 -hmac "$secret" -binary.
func TestATokenOfAnotherLanguageIsTaken(t *testing.T) {
	const token = "eyJ1c2VyIjoiNjY2IiwidG9waWNzIjpbInVzZXIuNjY2Il0sImV4cCI6MTkwMDAwMDAwMH0.zYfKHbLJDjt_o2qYDFgAlIlsm7WmcZQmCBRvunv1LY0"
	want := gateway.Claims{User: "666", Topics: []string{"user.666"}, Expires: 1900000000}
	got, why := gateway.ReadToken(secret, token, now)
	if why != "" || !reflect.DeepEqual(got, want) {
		t.Errorf("it is read as %+v, %s", got, why)
	}
}

// Somebody writes himself a token.
func TestATokenOfSomebodyElseIsRefused(t *testing.T) {
	good := mint(t, gateway.Claims{User: "666", Expires: now.Unix() + 60})
	body, signature, _ := strings.Cut(good, ".")
	other, err := gateway.Mint([]byte(strings.Repeat("x", 32)), gateway.Claims{User: "666", Expires: now.Unix() + 60})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token string
		why   gateway.Reason
	}{
		"none":                  {"", gateway.NoToken},
		"no signature":          {body, gateway.BadToken},
		"an empty signature":    {body + ".", gateway.BadToken},
		"half a signature":      {body + "." + signature[:20], gateway.BadToken},
		"two signatures":        {good + "." + signature, gateway.BadToken},
		"no claims":             {"." + signature, gateway.BadToken},
		"another secret":        {other, gateway.BadToken},
		"other claims":          {base64.RawURLEncoding.EncodeToString([]byte(`{"user":"667","exp":1900000000}`)) + "." + signature, gateway.BadToken},
		"padding":               {good + "=", gateway.BadToken},
		"the standard alphabet": {strings.NewReplacer("-", "+", "_", "/").Replace(good) + "+", gateway.BadToken},
		"a line end":            {good + "\n", gateway.BadToken},
		"too long":              {signed(`{"exp":1900000000,"user":"` + strings.Repeat("a", 5000) + `"}`), gateway.BadToken},
		"no JSON":               {signed("user=666"), gateway.BadToken},
		"more behind":           {signed(`{"user":"666","exp":1900000000}{}`), gateway.BadToken},
		"an unknown claim":      {signed(`{"user":"666","exp":1900000000,"from":"10.0.0.1"}`), gateway.BadToken},
		"a claim twice":         {signed(`{"user":"666","user":"667","exp":1900000000}`), gateway.BadToken},
		"a claim in capitals":   {signed(`{"User":"666","exp":1900000000}`), gateway.BadToken},
		"no end":                {signed(`{"user":"666"}`), gateway.BadToken},
		"an end in ms":          {signed(`{"user":"666","exp":1900000000000}`), gateway.BadToken},
		"an end as text":        {signed(`{"user":"666","exp":"1900000000"}`), gateway.BadToken},
		"a user with a slash":   {signed(`{"user":"a/b","exp":1900000000}`), gateway.BadToken},
		"a user that is all":    {signed(`{"user":"*","exp":1900000000}`), gateway.BadToken},
		"nobody, for nothing":   {signed(`{"exp":1900000000}`), gateway.BadToken},
		"single of nobody":      {signed(`{"topics":["a"],"single":true,"exp":1900000000}`), gateway.BadToken},
		"no pattern":            {signed(`{"topics":["a..b"],"exp":1900000000}`), gateway.BadToken},
		"no pattern to publish": {signed(`{"publish":[""],"exp":1900000000}`), gateway.BadToken},
		"an end that has come":  {signed(fmt.Sprintf(`{"user":"666","exp":%d}`, now.Unix())), gateway.TokenExpired},
	} {
		if claims, why := gateway.ReadToken(secret, c.token, now); why != c.why {
			t.Errorf("%s: %q, want %q (%+v)", name, why, c.why, claims)
		}
	}
}

// An app makes tokens that no gateway takes, and learns it from users.
func TestATokenThatNobodyWouldTakeIsNotMade(t *testing.T) {
	many := make([]string, 51)
	for i := range many {
		many[i] = fmt.Sprint("topic.", i)
	}
	long := make([]string, 50)
	for i := range long {
		long[i] = strings.Repeat("a", 100)
	}
	for name, c := range map[string]gateway.Claims{
		"no end":          {User: "666"},
		"many topics":     {Topics: many, Expires: 1900000000},
		"long topics":     {Topics: long, Expires: 1900000000},
		"a long user":     {User: strings.Repeat("a", 129), Expires: 1900000000},
		"a user of words": {User: "John Doe", Expires: 1900000000},
	} {
		if token, err := gateway.Mint(secret, c); err == nil {
			t.Errorf("%s: %s", name, token)
		}
	}
	if _, err := gateway.Mint(secret[:31], gateway.Claims{User: "666", Expires: 1900000000}); err == nil {
		t.Error("a secret of 31 bytes is taken")
	}
	if _, err := gateway.New(gateway.Options{Secret: secret[:31]}, nil); err == nil {
		t.Error("a gateway takes a secret of 31 bytes")
	}
}

// Whoever adds a line that logs the options must not log the secret with them.
func TestOptionsPrintWithoutTheSecret(t *testing.T) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if out := fmt.Sprintf(verb, gateway.Options{Secret: secret}); strings.Contains(out, "0123456789abcdef") || strings.Contains(out, "3031") {
			t.Errorf("%s: %s", verb, out)
		}
	}
}

// What is taken says the same when it is made again; nothing makes the reader panic.
func FuzzATokenThatIsTakenCanBeMade(f *testing.F) {
	f.Add(`{"user":"666","topics":["srv_msg","user.666"],"publish":["a.*"],"single":true,"exp":1900000000}`, "")
	f.Add(`{"topics":[],"publish":null,"user":"1","exp":1.9e9}`, "")
	f.Add(``, "a.b")
	f.Fuzz(func(t *testing.T, claims, raw string) {
		if _, why := gateway.ReadToken(secret, raw, now); why == "" {
			t.Fatalf("a token is good that nobody has signed: %q", raw)
		}
		c, why := gateway.ReadToken(secret, signed(claims), now)
		if why != "" {
			return
		}
		again, err := gateway.Mint(secret, c)
		if err != nil {
			t.Fatalf("%q is taken, and cannot be made: %v", claims, err)
		}
		if got, why := gateway.ReadToken(secret, again, now); why != "" || !reflect.DeepEqual(got, c) {
			t.Fatalf("%+v, made again, is %+v, %s", c, got, why)
		}
	})
}
