package redisacl

// The lists of what each role sends to Redis, by Go and in scripts, with all options that are
// in use: one command a line, capitals as they are, the rest an example. `key` and `channel`
// are names. A question mark in front: it does without, such as without SELECT where the address
// names no other database than 0.
//
// test/e2e holds them to what is really sent, in both directions; commands_test.go to what
// a Redis 6.2 knows.

// relay is msgbusd itself.
const relay = `
  BLMOVE key key LEFT RIGHT 1
  DEL key
  EVAL script 1 key
  EVALSHA sha 1 key
  EXISTS key
  EXPIRE key 1
  GET key
  GETBIT key 0
  HDEL key field
  HEXISTS key field
  HGET key field
  HGETALL key
  HINCRBY key field 1
  HKEYS key
  HLEN key
  HMGET key field
  HSCAN key 0 MATCH pattern COUNT 1
  HSET key field value
  INCRBY key 1
  INFO server
  LINDEX key 0
  LLEN key
  LPOP key
  LPUSH key value
  LRANGE key 0 0
  LSET key 0 value
  LTRIM key 0 0
  PERSIST key
  PEXPIRE key 1
  PEXPIREAT key 1
  PING
  PTTL key
  PUBLISH channel event
  PUBSUB|CHANNELS
  PUBSUB|NUMSUB channel
  RPOP key
  RPUSH key value
? SELECT 0
  SET key value PX PXAT EX 1
  SETBIT key 0 1
  SETRANGE key 0 value
  SMEMBERS key
  TIME
  TYPE key
  XADD key MAXLEN ~ 1 * field value
  XDEL key 0-1
  XLEN key
  XRANGE key - + COUNT 1
  XREVRANGE key + - COUNT 1
  ZADD key NX XX GT 0 member
  ZCARD key
  ZCOUNT key 0 0
  ZRANGE key 0 0 BYSCORE WITHSCORES
  ZRANGEBYSCORE key 0 0 WITHSCORES LIMIT 0 1
  ZREM key member
  ZREMRANGEBYRANK key 0 0
  ZREMRANGEBYSCORE key 0 0
  ZREVRANGE key 0 0 WITHSCORES
  ZSCAN key 0 COUNT 1
  ZSCORE key member
`

// operator is what msgbusd's commands for operators send beyond that: doctor, status, top,
// queue, lane, backlog, dead, group, event, trace, call and serve.
const operator = `
  BLPOP key 1
? CONFIG|GET name
  DISCARD
  MULTI
  SADD key member
  SCAN 0 MATCH pattern COUNT 1 TYPE set
  SREM key member
  XINFO|GROUPS key
`

// library is an app or a service with the Go client: calls, services, events, streams,
// presence. The gateway for browsers is one.
const library = `
  BLMOVE key key LEFT RIGHT 1
  DEL key
  EVAL script 1 key
  EVALSHA sha 1 key
  EXEC
  GET key
  HVALS key
  LINDEX key 0
  LMOVE key key LEFT RIGHT
  LRANGE key 0 0
  LREM key 1 value
  LTRIM key 0 0
  MULTI
  PEXPIRE key 1
  PING
  RPUSH key value
? SELECT 0
  SET key value EX 1 NX GET
  SUBSCRIBE channel
  TIME
  UNSUBSCRIBE channel
  XACK key group 0-1
  XAUTOCLAIM key group consumer 1 0-1 COUNT 1
  XCLAIM key group consumer 1 0-1 JUSTID
  XGROUP|CREATE key group $ MKSTREAM
  XPENDING key group - + 1
  XREAD COUNT 1 BLOCK 1 STREAMS key 0
  XREADGROUP GROUP group consumer COUNT 1 BLOCK 1 STREAMS key 0
  XREVRANGE key + - COUNT 1
  ZADD key 0 member
  ZREM key member
`

// app is an app or a service that knows nothing but the lists.
const app = `
  BLPOP key 1
  RPUSH key value
? SELECT 0
`
