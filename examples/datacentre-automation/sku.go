package main

import "context"

// A SKUService says what kind a node is of, once a graph has found out about it.
type SKUService struct {
	bus      *Bus
	graph    string
	rule     func(nodeID string) string
	finished *Listener[GraphFinished]
}

// NewSKUService says so by a rule after each graph of a name.
func NewSKUService(ctx context.Context, b *Bus, graph string, rule func(nodeID string) string) (*SKUService, error) {
	finished, err := listen[GraphFinished](ctx, b, GraphHasEnded)
	if err != nil {
		return nil, err
	}
	return &SKUService{b, graph, rule, finished}, nil
}

// Run works until ctx ends.
func (s *SKUService) Run(ctx context.Context) error {
	return s.finished.run(ctx, func(ctx context.Context, g GraphFinished) error {
		if g.Name != s.graph || g.Status != Succeeded {
			return nil
		}
		return s.bus.Publish(ctx, SkuWasAssigned, SkuAssigned{NodeID: g.Target, Sku: s.rule(g.Target)}, g.Target)
	})
}
