package twin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"

	"github.com/msgbusd/msgbusd/twin"
)

// A relay checks a message from a twin that it knows by number only.
func Example() {
	bob, err := twin.NewIdentity("//Bob", twin.ED25519)
	if err != nil {
		panic(err)
	}
	message := []byte("md5 of a message")
	signature := bob.Sign(message)

	// A registry stands for the network's resolver.
	rec, err := twin.NewRecord(1002, bob.Account(), "202:6df5::ee0f")
	if err != nil {
		panic(err)
	}
	registry, err := twin.NewRegistryFromRecords([]twin.Record{rec})
	if err != nil {
		panic(err)
	}
	srv := httptest.NewServer(registry)
	defer srv.Close()

	source, err := twin.NewSource(srv.URL, nil)
	if err != nil {
		panic(err)
	}
	directory := twin.NewDirectory(source, twin.Options{})

	from, err := directory.Twin(context.Background(), 1002)
	if err != nil {
		panic(err)
	}
	fmt.Println("genuine:", twin.Verify(from.PublicKey, message, signature) == nil)

	where, err := twin.Endpoint(from.Address, 8051)
	fmt.Println("answer to:", where, err)

	_, err = directory.Twin(context.Background(), 7)
	fmt.Println("twin 7 does not exist:", errors.Is(err, twin.ErrNotFound))
	// Output:
	// genuine: true
	// answer to: http://[202:6df5::ee0f]:8051 <nil>
	// twin 7 does not exist: true
}
