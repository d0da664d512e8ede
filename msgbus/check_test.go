package msgbus_test

import (
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

const uuid4 = "5bf6bc0c-72f1-4b2e-8c0c-e87d799fbc73"

// remoteRequest is a request of twin 1001 for twin 1002 as relays send them.
func remoteRequest() *msgbus.Message {
	return &msgbus.Message{Version: 1, UID: "1002.7", Command: "calculator.add", Data: "WzEwLDIwXQ==", Source: 1001,
		Destinations: []uint32{1002}, ReturnQueue: msgbus.WireReplyQueue, Now: 1_700_000_000}
}

// remoteReply is its reply.
func remoteReply() *msgbus.Message {
	m := remoteRequest()
	m.Source, m.Destinations, m.Data = 1002, []uint32{1001}, "MzA="
	return m
}

// Apps show these four texts; the specification's words are what their authors
// look for.
func TestTheFourInvalidMessagesAreToldInTheKnownWords(t *testing.T) {
	valid := func() *msgbus.Message {
		return &msgbus.Message{Version: 1, Command: "c", Destinations: []uint32{2}, ReturnQueue: "q"}
	}
	if err := valid().CheckLocal(1); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*msgbus.Message)
		reason msgbus.Reason
		text   string
	}{
		{func(m *msgbus.Message) { m.Version = 0 }, msgbus.BadVersion, "received invalid message: protocol version mismatch"},
		{func(m *msgbus.Message) { m.Version = 2 }, msgbus.BadVersion, "received invalid message: protocol version mismatch"},
		{func(m *msgbus.Message) { m.Command = "" }, msgbus.MissingCommand, "received invalid message: missing command request"},
		{func(m *msgbus.Message) { m.Destinations = nil }, msgbus.MissingDestination, "received invalid message: missing twin destination"},
		{func(m *msgbus.Message) { m.ReturnQueue = "" }, msgbus.MissingReturnQueue, "received invalid message: return queue not defined"},
		{func(m *msgbus.Message) { m.Command = strings.Repeat("c", 257) }, msgbus.BadCommand, "received invalid message: command is longer than 256 bytes"},
		{func(m *msgbus.Message) { m.Command = "system.local" }, msgbus.ReservedName, `received invalid message: command "system.local" is reserved`},
		{func(m *msgbus.Message) { m.ReturnQueue = strings.Repeat("q", 513) }, msgbus.ReservedName, "received invalid message: return queue is longer than 512 bytes"},
		{func(m *msgbus.Message) { m.Destinations = []uint32{2, 3} }, msgbus.TooManyDestinations, "received invalid message: 2 destinations, at most 1 are served"},
	} {
		m := valid()
		c.change(m)
		err := m.CheckLocal(1)
		if reasonOf(t, err) != c.reason || err.Error() != c.text {
			t.Errorf("got %q (%s), want %q (%s)", err, reasonOf(t, err), c.text, c.reason)
		}
	}
}

// wireMistakes are refused at every endpoint.
var wireMistakes = map[string]struct {
	change func(*msgbus.Message)
	reason msgbus.Reason
}{
	"another destination":     {func(m *msgbus.Message) { m.Destinations[0]++ }, msgbus.WrongDestination},
	"no destination":          {func(m *msgbus.Message) { m.Destinations = nil }, msgbus.WrongDestination},
	"two destinations":        {func(m *msgbus.Message) { m.Destinations = append(m.Destinations, 5) }, msgbus.WrongDestination},
	"the destination twice":   {func(m *msgbus.Message) { m.Destinations = append(m.Destinations, m.Destinations[0]) }, msgbus.WrongDestination},
	"no source":               {func(m *msgbus.Message) { m.Source = 0 }, msgbus.WrongSource},
	"this twin as the source": {func(m *msgbus.Message) { m.Source = m.Destinations[0] }, msgbus.WrongSource},
	"the newer dialect":       {func(m *msgbus.Message) { m.Dialect = msgbus.Ref }, msgbus.Malformed},
	"a version of two digits": {func(m *msgbus.Message) { m.Version = 11 }, msgbus.BadVersion},
	"a negative version":      {func(m *msgbus.Message) { m.Version = -1 }, msgbus.BadVersion},
	"no command":              {func(m *msgbus.Message) { m.Command = "" }, msgbus.BadCommand},
	"a long command":          {func(m *msgbus.Message) { m.Command = strings.Repeat("c", 257) }, msgbus.BadCommand},
	"a colon in the command":  {func(m *msgbus.Message) { m.Command = "a:b" }, msgbus.BadCommand},
	"a blank in the command":  {func(m *msgbus.Message) { m.Command = "a b" }, msgbus.BadCommand},
	"a brace in the command":  {func(m *msgbus.Message) { m.Command = "{a}" }, msgbus.BadCommand},
	"a newline in it":         {func(m *msgbus.Message) { m.Command = "a\n" }, msgbus.BadCommand},
	"a letter beyond ASCII":   {func(m *msgbus.Message) { m.Command = "ſystem" }, msgbus.BadCommand},
	"a slash in it":           {func(m *msgbus.Message) { m.Command = "a/b" }, msgbus.BadCommand},
	"data that is no base64":  {func(m *msgbus.Message) { m.Data = "***" }, msgbus.Malformed},
	"data over two lines":     {func(m *msgbus.Message) { m.Data = "QUJD\nQUJD" }, msgbus.Malformed},
	"data with spare bits":    {func(m *msgbus.Message) { m.Data = "AB==" }, msgbus.Malformed},
}

// Each of these is a way to make one relay read what another did not say.
func TestARequestFromTheNetworkIsTakenInItsOneFormOnly(t *testing.T) {
	check := func(m *msgbus.Message) error { return m.CheckRemoteRequest(1002) }
	for _, change := range []func(*msgbus.Message){
		func(*msgbus.Message) {},
		func(m *msgbus.Message) { m.UID = "1002.9007199254740991" },
		func(m *msgbus.Message) { m.Command = "AZaz09._-@" },
		func(m *msgbus.Message) { m.Data = "" },
		func(m *msgbus.Message) { m.Version = 2 },              // answered, not refused
		func(m *msgbus.Message) { m.Command = "system.local" }, // the same
		func(m *msgbus.Message) { m.Expiration = -1 },          // the same
	} {
		m := remoteRequest()
		change(m)
		if err := check(m); err != nil {
			t.Errorf("%+v is refused: %v", m, err)
		}
	}
	refuses(t, check, remoteRequest)
	for name, c := range map[string]struct {
		change func(*msgbus.Message)
		reason msgbus.Reason
	}{
		"no uid":                   {func(m *msgbus.Message) { m.UID = "" }, msgbus.Malformed},
		"the source's uid":         {func(m *msgbus.Message) { m.UID = "1001.7" }, msgbus.Malformed},
		"a uid with a zero":        {func(m *msgbus.Message) { m.UID = "1002.07" }, msgbus.Malformed},
		"a uid past 2^53":          {func(m *msgbus.Message) { m.UID = "1002.9007199254740992" }, msgbus.Malformed},
		"a long uid":               {func(m *msgbus.Message) { m.UID = "1002.7" + strings.Repeat(".", 1<<20) }, msgbus.Malformed},
		"ret of the sender's":      {func(m *msgbus.Message) { m.ReturnQueue = "victim" }, msgbus.ReservedName},
		"no ret":                   {func(m *msgbus.Message) { m.ReturnQueue = "" }, msgbus.ReservedName},
		"ret with another prefix":  {func(m *msgbus.Message) { m.ReturnQueue = "{msgbus}.system.reply" }, msgbus.ReservedName},
		"pxy":                      {func(m *msgbus.Message) { m.Proxied = true }, msgbus.Malformed},
		"what was marked a result": {func(m *msgbus.Message) { m.MarkResult() }, msgbus.Malformed},
	} {
		m := remoteRequest()
		c.change(m)
		err := check(m)
		if got := reasonOf(t, err); got != c.reason || len(err.Error()) > 300 {
			t.Errorf("%s: %v (%s), want %s", name, err, got, c.reason)
		}
	}
}

// A reply of the wrong twin, or to a queue of the sender's choice, answers a
// request that somebody else was asked.
func TestAReplyFromTheNetworkIsTakenInItsOneFormOnly(t *testing.T) {
	check := func(m *msgbus.Message) error { return m.CheckRemoteReply(1001) }
	if err := check(remoteReply()); err != nil {
		t.Fatal(err)
	}
	refuses(t, check, remoteReply)
	for name, c := range map[string]struct {
		change func(*msgbus.Message)
		reason msgbus.Reason
	}{
		"no uid":              {func(m *msgbus.Message) { m.UID = "" }, msgbus.Malformed},
		"a uuid for a uid":    {func(m *msgbus.Message) { m.UID = uuid4 }, msgbus.Malformed},
		"another twin's uid":  {func(m *msgbus.Message) { m.UID = "1003.7" }, msgbus.WrongSource},
		"our own uid":         {func(m *msgbus.Message) { m.UID = "1001.7" }, msgbus.WrongSource},
		"another twin's word": {func(m *msgbus.Message) { m.Source = 1003 }, msgbus.WrongSource},
		"ret of the sender's": {func(m *msgbus.Message) { m.ReturnQueue = "victim" }, msgbus.ReservedName},
		"pxy":                 {func(m *msgbus.Message) { m.Proxied = true }, msgbus.Malformed},
	} {
		m := remoteReply()
		c.change(m)
		if got := reasonOf(t, check(m)); got != c.reason {
			t.Errorf("%s: %s, want %s", name, got, c.reason)
		}
	}
}

// Clients without a relay send no uid and no ret, or the ones that their library
// makes up; nothing of that may name a key.
func TestACommandIsTakenAsClientsSignIt(t *testing.T) {
	command := func() *msgbus.Message {
		m := remoteRequest()
		m.UID, m.ReturnQueue = "", ""
		return m
	}
	check := func(m *msgbus.Message) error { return m.CheckProxied(1002) }
	for _, change := range []func(*msgbus.Message){
		func(*msgbus.Message) {},
		func(m *msgbus.Message) { m.Proxied = true },
		func(m *msgbus.Message) { m.UID = "1002.7" },
		func(m *msgbus.Message) { m.ReturnQueue = uuid4 },
		func(m *msgbus.Message) { m.ReturnQueue = strings.ReplaceAll(uuid4, "-", "") },
	} {
		m := command()
		change(m)
		if err := check(m); err != nil {
			t.Errorf("%+v is refused: %v", m, err)
		}
	}
	refuses(t, check, command)
	for name, change := range map[string]func(*msgbus.Message){
		"a uid of another form": func(m *msgbus.Message) { m.UID = "x" },
		"ret of the sender's":   func(m *msgbus.Message) { m.ReturnQueue = "victim" },
		"ret of a relay":        func(m *msgbus.Message) { m.ReturnQueue = msgbus.WireReplyQueue },
		"a urn for ret":         func(m *msgbus.Message) { m.ReturnQueue = "urn:uuid:" + uuid4 },
		"braces around ret":     func(m *msgbus.Message) { m.ReturnQueue = "{" + uuid4 + "}" },
		"a result":              func(m *msgbus.Message) { m.MarkResult() },
	} {
		m := command()
		change(m)
		if got := reasonOf(t, check(m)); got != msgbus.Malformed {
			t.Errorf("%s: %s, want %s", name, got, msgbus.Malformed)
		}
	}
}

// refuses tries the mistakes that no endpoint takes.
func refuses(t *testing.T, check func(*msgbus.Message) error, valid func() *msgbus.Message) {
	t.Helper()
	for name, c := range wireMistakes {
		m := valid()
		c.change(m)
		if got := reasonOf(t, check(m)); got != c.reason {
			t.Errorf("%s: %q, want %s", name, got, c.reason)
		}
	}
}

// An app whose data is not strict base64 would be refused by every peer, for a
// field that no relay needs to read.
func TestDataThatIsNotBase64IsCarriedAsBase64OfItself(t *testing.T) {
	for dat, want := range map[string]string{
		"":                  "",
		"aGVsbG8=":          "aGVsbG8=",
		"aGVs\nbG8=\n":      "aGVsbG8=",
		"R0E3...2WUwzTzdO=": "UjBFMy4uLjJXVXd6VHpkTz0=",
		"{\"a\": 1}":        "eyJhIjogMX0=",
		"aGVsbG8":           "aGVsbG8=",
		"aGVsbG9=":          "YUdWc2JHOT0=", // trailing bits: another text with the same bytes
	} {
		got := msgbus.CarriedData(dat)
		if got != want || !msgbus.ValidData(got) {
			t.Errorf("CarriedData(%q) = %q, want %q", dat, got, want)
		}
	}
}
