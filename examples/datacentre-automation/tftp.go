package main

import (
	"context"
	"fmt"
)

// A TFTPService gives nodes what they boot first. Its own exchange has no keys; it tells what
// it does under events.
type TFTPService struct {
	bus   *Bus
	files map[string][]byte
}

// NewTFTPService serves files by their names.
func NewTFTPService(b *Bus, files map[string][]byte) *TFTPService {
	return &TFTPService{bus: b, files: files}
}

// Get gives a node a file, and tells whether it has it.
func (t *TFTPService) Get(ctx context.Context, nodeID, file string) ([]byte, error) {
	data, ok := t.files[file]
	if !ok {
		failed := TftpFailure{NodeID: nodeID, File: file, Error: "file not found"}
		if err := t.bus.Publish(ctx, TftpFailed, failed, nodeID); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("get %s: file not found", file)
	}
	return data, t.bus.Publish(ctx, TftpSucceeded, TftpSuccess{NodeID: nodeID, File: file, Bytes: len(data)}, nodeID)
}
