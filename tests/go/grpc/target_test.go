// What the tests share: clients, streams of their own, batches, and how a call must end.

package grpc

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/s2-streamstore/s2-sdk-go/s2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A test that takes longer than this hangs.
const testSecondsMax = 90

// Beside other tests: each has basins of its own.
func start(t *testing.T) context.Context {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), testSecondsMax*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func clientWith(t *testing.T, token string, params ...s2.ClientConfigParam) *s2.Client {
	t.Helper()
	endpoints := must(s2.EndpointsFromEnv())(t)
	return must(s2.NewClient(token, append(params, s2.WithEndpoints(endpoints))...))(t)
}

func client(t *testing.T) *s2.Client {
	t.Helper()
	return clientWith(t, "any")
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

// The call must end with this status, and its message must have these words.
func refused(t *testing.T, err error, code codes.Code, words string) {
	t.Helper()
	if err == nil || status.Code(err) != code || !strings.Contains(err.Error(), words) {
		t.Fatalf("got %v, expected %s with the words %q", err, code, words)
	}
}

func newBasin(t *testing.T, ctx context.Context, s *s2.Client, config *s2.BasinConfig) (string, *s2.BasinClient) {
	t.Helper()
	name := unique("go")
	if config == nil {
		config = &s2.BasinConfig{}
	}
	must(s.CreateBasin(ctx, &s2.CreateBasinRequest{Basin: name, Config: config}))(t)
	return name, must(s.BasinClient(name))(t)
}

func newStreamOf(t *testing.T, ctx context.Context, s *s2.Client, config *s2.StreamConfig) *s2.StreamClient {
	t.Helper()
	_, basin := newBasin(t, ctx, s, nil)
	must(basin.CreateStream(ctx, &s2.CreateStreamRequest{Stream: "stream", Config: config}))(t)
	return basin.StreamClient("stream")
}

// The client takes no configuration of a stream without its timestamping.
func defaults() *s2.StreamConfig {
	return &s2.StreamConfig{Timestamping: &s2.Timestamping{}}
}

func newStream(t *testing.T, ctx context.Context) *s2.StreamClient {
	t.Helper()
	return newStreamOf(t, ctx, client(t), defaults())
}

func some[T any](value T) *T {
	return &value
}

func input(records ...s2.AppendRecord) *s2.AppendInput {
	batch, left := s2.NewAppendRecordBatch(records...)
	if len(left) > 0 {
		panic("more records than a batch holds")
	}
	return &s2.AppendInput{Records: batch}
}

func batch(bodies ...string) *s2.AppendInput {
	var records []s2.AppendRecord
	for _, body := range bodies {
		records = append(records, s2.AppendRecord{Body: []byte(body)})
	}
	return input(records...)
}

func command(record s2.CommandRecord) *s2.AppendInput {
	return input(s2.AppendRecordFromCommand(record))
}

func from(seqNum uint64) *s2.ReadRequest {
	return &s2.ReadRequest{Start: s2.ReadStartSeqNum(seqNum)}
}

// The records of an answer that must have some, or an empty batch.
func records(t *testing.T, output s2.ReadOutput) []s2.SequencedRecord {
	t.Helper()
	batch, ok := output.(s2.ReadOutputBatch)
	if !ok {
		t.Fatalf("got %T %v, expected records", output, output)
	}
	return batch.Records
}

func read(t *testing.T, ctx context.Context, stream *s2.StreamClient, request *s2.ReadRequest) []s2.SequencedRecord {
	t.Helper()
	return records(t, must(stream.Read(ctx, request))(t))
}

func bodies(records []s2.SequencedRecord) string {
	texts := make([]string, len(records))
	for i, record := range records {
		texts[i] = string(record.Body)
	}
	return strings.Join(texts, " ")
}
