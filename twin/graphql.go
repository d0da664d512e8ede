package twin

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
)

// graphqlSource speaks to an indexer of the chain: a list of none or one, as
// gridproxy has it, within the envelope of GraphQL.
type graphqlSource struct{ *httpSource }

func (s graphqlSource) Twin(ctx context.Context, id uint32) (Record, error) {
	// GraphQL's Int ends there, so an index of twins by Int has none above. Asked
	// all the same it would give an error, and made-up numbers would look like an
	// endpoint that is down.
	if id > math.MaxInt32 {
		return Record{}, ErrNotFound
	}
	return s.first(ctx, "query($id: Int!){ twins(where: {twinID_eq: $id}) { %s } }", map[string]any{"id": id}, isTwin(id))
}

func (s graphqlSource) TwinByAccount(ctx context.Context, account string) (Record, error) {
	return s.first(ctx, "query($account: String!){ twins(where: {accountID_eq: $account}) { %s } }", map[string]any{"account": account}, hasAccount(account))
}

type graphqlQuestion struct {
	Query     string         `json:"query"`
	Variables map[string]any `json:"variables"`
}

type graphqlAnswer struct {
	Data struct {
		Twins []json.RawMessage `json:"twins"`
	} `json:"data"`
	Errors []struct {
		Message string `json:"message"`
	} `json:"errors"`
}

// first asks for a twin with its address, and where twins have none for one
// without: since 2023 the schema does not know ip, and refuses a query of it.
func (s graphqlSource) first(ctx context.Context, query string, variables map[string]any, want question) (Record, error) {
	a, reply, err := s.query(ctx, fmt.Sprintf(query, "twinID accountID ip"), variables)
	if err == nil && reply.lacksAddresses() {
		a, reply, err = s.query(ctx, fmt.Sprintf(query, "twinID accountID"), variables)
	}
	switch {
	case err != nil:
		return Record{}, err
	case len(reply.Errors) > 0: // whatever data is beside them, it is not all
		return Record{}, a.complaint(reply.Errors[0].Message)
	case a.status != http.StatusOK:
		return Record{}, a.unexpected()
	default:
		return a.only(reply.Data.Twins, want)
	}
}

// query returns the answer as it came, and read. Errors within it are left to the
// caller; a query that a server refuses comes back with 400 and the reason.
func (s graphqlSource) query(ctx context.Context, query string, variables map[string]any) (answer, graphqlAnswer, error) {
	a, err := s.post(ctx, graphqlQuestion{Query: query, Variables: variables})
	if err != nil {
		return answer{}, graphqlAnswer{}, err
	}
	if a.status != http.StatusOK && a.status != http.StatusBadRequest {
		return answer{}, graphqlAnswer{}, a.unexpected()
	}
	var reply graphqlAnswer
	if err := a.decode(&reply); err != nil {
		return answer{}, graphqlAnswer{}, err
	}
	return a, reply, nil
}

// lacksAddresses recognises the words that the reference implementation of
// GraphQL, and what is built on it, has for a field that is not in the schema.
func (r graphqlAnswer) lacksAddresses() bool {
	return len(r.Errors) == 1 && strings.HasPrefix(r.Errors[0].Message, `Cannot query field "ip" on type`)
}
