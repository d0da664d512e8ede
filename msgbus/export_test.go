package msgbus

// ChallengeText is what Challenge takes the md5 of.
func (m *Message) ChallengeText() string { return string(m.appendChallenge(nil)) }

// KnownKeys are the keys that mean something.
func KnownKeys() []string { return knownKeys[:] }
