package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
)

// A DHCPService gives nodes their addresses, and answers questions about them.
type DHCPService struct {
	bus         *Bus
	first, last netip.Addr

	mu     sync.Mutex
	leases map[netip.Addr]Lease // guarded by mu
}

// NewDHCPService gives out the addresses from first to last.
func NewDHCPService(b *Bus, first, last netip.Addr) *DHCPService {
	return &DHCPService{bus: b, first: first, last: last, leases: make(map[netip.Addr]Lease)}
}

// Run serves until ctx ends.
func (d *DHCPService) Run(ctx context.Context) error {
	s := d.bus.newServer()
	handle(s, LookupIPLease, d.lookupIPLease)
	handle(s, IPInRange, d.ipInRange)
	handle(s, PeekLeaseTable, d.peekLeaseTable)
	handle(s, RemoveLease, func(_ context.Context, m MACAddress) (Lease, error) { return d.remove(d.byMAC(m)) })
	handle(s, RemoveLeaseByIP, func(_ context.Context, m IPAddress) (Lease, error) { return d.remove(d.byIP(m)) })
	handle(s, PinMAC, func(_ context.Context, m MACAddress) (Lease, error) { return d.pin(d.byMAC(m), true) })
	handle(s, UnpinMAC, func(_ context.Context, m MACAddress) (Lease, error) { return d.pin(d.byMAC(m), false) })
	handle(s, PinIP, func(_ context.Context, m IPAddress) (Lease, error) { return d.pin(d.byIP(m), true) })
	handle(s, UnpinIP, func(_ context.Context, m IPAddress) (Lease, error) { return d.pin(d.byIP(m), false) })
	return s.Run(ctx)
}

// Bind gives a node an address, the one that it has if it has one, and tells so. An error
// says that there is none left, or is Redis's.
func (d *DHCPService) Bind(ctx context.Context, nodeID, mac string) (Lease, error) {
	lease, err := d.bind(nodeID, mac)
	if err != nil {
		return Lease{}, err
	}
	return lease, d.bus.Publish(ctx, DhcpBound, lease, nodeID)
}

func (d *DHCPService) bind(nodeID, mac string) (Lease, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.leases {
		if l.MAC == mac {
			return l, nil
		}
	}
	for ip := d.first; ip.Compare(d.last) <= 0; ip = ip.Next() {
		if _, taken := d.leases[ip]; !taken {
			d.leases[ip] = Lease{NodeID: nodeID, IP: ip.String(), MAC: mac}
			return d.leases[ip], nil
		}
	}
	return Lease{}, fmt.Errorf("bind %s: all addresses from %s to %s are taken", mac, d.first, d.last)
}

func (d *DHCPService) lookupIPLease(_ context.Context, m IPAddress) (Lease, error) {
	return d.find(d.byIP(m))
}

func (d *DHCPService) ipInRange(_ context.Context, m IPAddress) (bool, error) {
	ip, err := netip.ParseAddr(m.Value)
	return err == nil && d.first.Compare(ip) <= 0 && ip.Compare(d.last) <= 0, err
}

// peekLeaseTable answers all leases, in the order of their addresses.
func (d *DHCPService) peekLeaseTable(context.Context, Nothing) ([]Lease, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	table := []Lease{}
	for _, ip := range slices.SortedFunc(maps.Keys(d.leases), netip.Addr.Compare) {
		table = append(table, d.leases[ip])
	}
	return table, nil
}

// A pick says which lease a question is about.
type pick struct {
	what string
	is   func(Lease) bool
}

func (d *DHCPService) byIP(m IPAddress) pick {
	return pick{m.Value, func(l Lease) bool { return l.IP == m.Value }}
}

func (d *DHCPService) byMAC(m MACAddress) pick {
	return pick{m.Value, func(l Lease) bool { return l.MAC == m.Value }}
}

func (d *DHCPService) find(p pick) (Lease, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, l, err := d.lookup(p)
	return l, err
}

// lookup needs mu.
func (d *DHCPService) lookup(p pick) (netip.Addr, Lease, error) {
	for ip, l := range d.leases {
		if p.is(l) {
			return ip, l, nil
		}
	}
	return netip.Addr{}, Lease{}, notFound("there is no lease of %s", p.what)
}

// remove answers the lease that there was.
func (d *DHCPService) remove(p pick) (Lease, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ip, l, err := d.lookup(p)
	if err != nil {
		return Lease{}, err
	}
	if l.Pinned {
		return Lease{}, conflict("the lease of %s is pinned", p.what)
	}
	delete(d.leases, ip)
	return l, nil
}

// pin answers the lease as it is then.
func (d *DHCPService) pin(p pick, pinned bool) (Lease, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ip, l, err := d.lookup(p)
	if err != nil {
		return Lease{}, err
	}
	l.Pinned = pinned
	d.leases[ip] = l
	return l, nil
}
