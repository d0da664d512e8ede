package msgbus

// ChallengeText is what Challenge takes the md5 of.
func (m *Message) ChallengeText() string { return string(m.appendChallenge(nil)) }
