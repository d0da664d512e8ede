package fleettest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Find names the keys, and what of them, that a text stands in: where a message
// is.
func (s *Site) Find(text string) []string {
	s.T.Helper()
	ctx := s.T.Context()
	var found []string
	keys := s.RDB.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		values, err := s.values(key)
		if err != nil {
			found = append(found, fmt.Sprintf("%s, perhaps: %v", key, err))
		}
		for at, value := range values {
			if strings.Contains(value, text) {
				found = append(found, key+" "+at)
			}
		}
	}
	if err := keys.Err(); err != nil {
		found = append(found, "what cannot be read: "+err.Error())
	}
	return found
}

// values returns what a key holds, by its place there.
func (s *Site) values(key string) (map[string]string, error) {
	ctx := s.T.Context()
	kind, err := s.RDB.Type(ctx, key).Result()
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	switch kind {
	case "string":
		values[""], err = s.RDB.Get(ctx, key).Result()
	case "hash":
		values, err = s.RDB.HGetAll(ctx, key).Result()
	case "list":
		var all []string
		all, err = s.RDB.LRange(ctx, key, 0, -1).Result()
		for i, v := range all {
			values[fmt.Sprint(i)] = v
		}
	case "zset":
		var all []redis.Z
		all, err = s.RDB.ZRangeWithScores(ctx, key, 0, -1).Result()
		for _, z := range all {
			values[fmt.Sprint(z.Score)] = fmt.Sprint(z.Member)
		}
	case "stream":
		var all []redis.XMessage
		all, err = s.RDB.XRange(ctx, key, "-", "+").Result()
		for _, m := range all {
			values[m.ID] = fmt.Sprint(m.Values)
		}
	}
	if errors.Is(err, redis.Nil) {
		err = nil // it ended meanwhile
	}
	return values, err
}
