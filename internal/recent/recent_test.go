package recent

import "testing"

// More than the bound would be a leak; a key that is forgotten too early costs a look
// into Redis.
func TestTheOldestGivesWay(t *testing.T) {
	m := NewMap[int, int](3)
	for i := range 10 {
		m.Set(i, i)
		m.Set(i, -i)
	}
	m.Delete(8)
	for i := range 10 {
		value, ok := m.Get(i)
		if want := i == 7 || i == 9; ok != want || ok && value != -i {
			t.Errorf("key %d: %d, %v, want it known: %v", i, value, ok, want)
		}
	}
	if len(m.values) != 2 || len(m.order) != 3 {
		t.Errorf("%d values and %d keys are kept", len(m.values), len(m.order))
	}
}

// A key that was deleted and comes again has two places in the order: the earlier one
// must not take the later value with it for ever, nor grow the order.
func TestAKeyMayComeAgain(t *testing.T) {
	m := NewMap[int, int](2)
	for i := range 100 {
		m.Set(1, i)
		m.Delete(1)
	}
	m.Set(2, 2)
	if value, ok := m.Get(2); !ok || value != 2 {
		t.Errorf("the latest key is not known: %d, %v", value, ok)
	}
	if len(m.order) > 2 {
		t.Errorf("%d keys are kept", len(m.order))
	}
}
