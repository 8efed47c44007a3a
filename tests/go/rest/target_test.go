// S2's own Go SDK (0.19.0) against the server named by `S2_TARGET`: HTTP/1.1 for single requests, HTTP/2 with prior knowledge
// for sessions. This file has what the others share: clients, streams of their own, batches.

package rest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/s2-streamstore/s2-sdk-go/s2"
)

// A test that takes longer than this hangs.
const testSecondsMax = 90

func TestMain(m *testing.M) {
	if os.Getenv("S2_TARGET") == "" {
		fmt.Fprintln(os.Stderr, "S2_TARGET names the server, e.g. http://127.0.0.1:8080")
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// Beside other tests: each has basins of its own.
func start(t *testing.T) context.Context {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), testSecondsMax*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func clientWith(token string, options s2.ClientOptions) *s2.Client {
	// A path, even a single slash, would take the place of `/v1`.
	target := strings.TrimSuffix(os.Getenv("S2_TARGET"), "/")
	options.BaseURL = target
	options.MakeBasinBaseURL = func(string) string { return target }
	return s2.New(token, &options)
}

func client() *s2.Client {
	return clientWith("ignored", s2.ClientOptions{})
}

func unique(prefix string) string {
	random := make([]byte, 8)
	if _, err := rand.Read(random); err != nil {
		panic(err)
	}
	return fmt.Sprintf("%s-%x", prefix, random)
}

// The value of a call that must succeed: `must(call())(t)`.
func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func succeeds(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, got, expected T) {
	t.Helper()
	if got != expected {
		t.Fatalf("got %v, expected %v", got, expected)
	}
}

// The server's refusal must be this one.
func refused(t *testing.T, err error, status int, code string) {
	t.Helper()
	var refusal *s2.S2Error
	if !errors.As(err, &refusal) || refusal.Status != status || refusal.Code != code || refusal.Origin != "server" {
		t.Fatalf("got %v, expected %d %s", err, status, code)
	}
}

func newBasin(t *testing.T, ctx context.Context, s *s2.Client, config *s2.BasinConfig) *s2.BasinClient {
	t.Helper()
	name := unique("go")
	must(s.Basins.Create(ctx, s2.CreateBasinArgs{Basin: s2.BasinName(name), Config: config}))(t)
	return s.Basin(name)
}

func newStreamOf(t *testing.T, ctx context.Context, s *s2.Client, config *s2.StreamConfig) *s2.StreamClient {
	t.Helper()
	basin := newBasin(t, ctx, s, nil)
	must(basin.Streams.Create(ctx, s2.CreateStreamArgs{Stream: "stream", Config: config}))(t)
	return basin.Stream("stream")
}

func newStream(t *testing.T, ctx context.Context) *s2.StreamClient {
	t.Helper()
	return newStreamOf(t, ctx, client(), nil)
}

func batch(bodies ...string) *s2.AppendInput {
	input := &s2.AppendInput{}
	for _, body := range bodies {
		input.Records = append(input.Records, s2.AppendRecord{Body: []byte(body)})
	}
	return input
}

func command(record s2.AppendRecord) *s2.AppendInput {
	return &s2.AppendInput{Records: []s2.AppendRecord{record}}
}

func from(seqNum uint64) *s2.ReadOptions {
	return &s2.ReadOptions{SeqNum: &seqNum}
}

func bodies(records []s2.SequencedRecord) string {
	texts := make([]string, len(records))
	for i, record := range records {
		texts[i] = string(record.Body)
	}
	return strings.Join(texts, " ")
}
