// Package fleettest starts what a fleet is made of - a registry, a Redis and a
// msgbusd for each twin, all of them real processes - and speaks to it as apps,
// services, peers and operators do.
package fleettest
