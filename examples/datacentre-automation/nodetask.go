package main

import (
	"context"
	"sync"
)

// A NodeTask is what a task that works on a node answers when the node asks: what to boot,
// and what to run. While it is there, nobody else may be there for the node.
type NodeTask struct {
	Boot       Profile           // when the node has no address yet
	Profile    Profile           // when it asks over HTTP
	Properties map[string]string // of the task
	Commands   []string
}

// serve answers for a node until the node has said what its commands printed, and returns
// that. It is found by the node's name: each node has its own methods.
func (n NodeTask) serve(ctx context.Context, b *Bus, nodeID string) (CommandResults, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var results CommandResults
	var once sync.Once
	s := b.newServer()
	handle(s, GetBootProfile, func(context.Context, NodeQuestion) (Profile, error) { return n.Boot, nil }, nodeID)
	handle(s, RequestProfile, func(context.Context, NodeQuestion) (Profile, error) { return n.Profile, nil }, nodeID)
	handle(s, RequestProperties, func(context.Context, NodeQuestion) (map[string]string, error) { return n.Properties, nil }, nodeID)
	handle(s, RequestCommands, func(context.Context, NodeQuestion) (Commands, error) { return Commands{nodeID, n.Commands}, nil }, nodeID)
	handle(s, ActiveTaskExists, func(context.Context, NodeQuestion) (bool, error) { return true, nil }, nodeID)
	handle(s, RespondCommands, func(_ context.Context, r CommandResults) (Nothing, error) {
		once.Do(func() { results = r })
		stop() // the server still sends this answer before it ends
		return Nothing{}, nil
	}, nodeID)
	err := s.Run(ctx)
	if err == nil && results.NodeID == "" {
		err = context.Cause(ctx) // the task was told to stop
	}
	return results, err
}

// IsTaskActive asks whether a task works on a node.
func IsTaskActive(ctx context.Context, b *Bus, nodeID string) (bool, error) {
	is, err := request[bool](ctx, b, ActiveTaskExists, NodeQuestion{nodeID}, nodeID)
	if IsNoService(err) {
		return false, nil
	}
	return is, err
}

// CommandsJob is a job that has a node run commands.
func CommandsJob(commands ...string) Job {
	return func(ctx context.Context, b *Bus, t RunTask) error {
		n := NodeTask{
			Boot:       Profile{Profile: "undionly.kpxe"},
			Profile:    Profile{Profile: "linux.ipxe", Options: t.Options},
			Properties: map[string]string{"taskId": t.TaskID, "taskName": t.TaskName},
			Commands:   commands,
		}
		_, err := n.serve(ctx, b, t.NodeID)
		return err
	}
}
