package client

import "github.com/msgbusd/msgbusd/internal/redisconn"

const callTimeout = redisconn.CallTimeout
