// Single reads: where they start, where they stop, and what they say at the tail.

package rest

import (
	"errors"
	"strings"
	"testing"

	"github.com/s2-streamstore/s2-sdk-go/s2"
)

func TestAReadStopsAtItsLimits(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	must(stream.Append(ctx, batch("a", "b", "c", "d")))(t)
	read := func(options s2.ReadOptions) string {
		t.Helper()
		return bodies(must(stream.Read(ctx, &options))(t).Records)
	}
	equal(t, read(s2.ReadOptions{SeqNum: s2.Uint64(1), Count: s2.Uint64(2)}), "b c")
	// Each record counts nine bytes.
	equal(t, read(s2.ReadOptions{SeqNum: s2.Uint64(0), Bytes: s2.Uint64(27)}), "a b c")
	equal(t, read(s2.ReadOptions{SeqNum: s2.Uint64(0), Bytes: s2.Uint64(26)}), "a b")
	equal(t, read(s2.ReadOptions{SeqNum: s2.Uint64(0), Bytes: s2.Uint64(8)}), "")
	equal(t, read(s2.ReadOptions{SeqNum: s2.Uint64(0), Count: s2.Uint64(0)}), "")
	equal(t, read(s2.ReadOptions{TailOffset: s2.Int64(1)}), "d")
	equal(t, read(s2.ReadOptions{TailOffset: s2.Int64(99)}), "a b c d")
}

func TestReadingAtTheTailIsATypedErrorOrAWait(t *testing.T) {
	ctx := start(t)
	// A client that may try again forgets the tail of such an answer.
	once := clientWith("ignored", s2.ClientOptions{RetryConfig: &s2.RetryConfig{MaxAttempts: 1}})
	stream := newStreamOf(t, ctx, once, nil)
	must(stream.Append(ctx, batch("a")))(t)
	for _, seqNum := range []uint64{1, 9} {
		_, err := stream.Read(ctx, from(seqNum))
		var beyond *s2.RangeNotSatisfiableError
		if !errors.As(err, &beyond) || beyond.Tail == nil {
			t.Fatalf("got %v", err)
		}
		equal(t, beyond.Tail.SeqNum, 1)
	}
	waited := must(stream.Read(ctx, &s2.ReadOptions{SeqNum: s2.Uint64(9), Clamp: s2.Bool(true), Wait: s2.Int32(1)}))(t)
	equal(t, len(waited.Records), 0)

	answer := make(chan string)
	go func() {
		batch, err := stream.Read(ctx, &s2.ReadOptions{SeqNum: s2.Uint64(1), Wait: s2.Int32(4)})
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- bodies(batch.Records)
	}()
	must(stream.Append(ctx, batch("b")))(t)
	equal(t, <-answer, "b")
}

func TestASingleReadHoldsOneMebibyte(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	for range 3 {
		must(stream.Append(ctx, batch(strings.Repeat("x", 500_000))))(t)
	}
	equal(t, len(must(stream.Read(ctx, from(0)))(t).Records), 2)
	input := &s2.AppendInput{}
	for range 1000 {
		input.Records = append(input.Records, s2.AppendRecord{})
	}
	must(stream.Append(ctx, input))(t)
	must(stream.Append(ctx, input))(t)
	equal(t, len(must(stream.Read(ctx, from(3)))(t).Records), 1000)
}

func TestCompressionChangesNothing(t *testing.T) {
	for name, compression := range map[string]s2.CompressionType{"gzip": s2.CompressionGzip, "zstd": s2.CompressionZstd} {
		t.Run(name, func(t *testing.T) {
			ctx := start(t)
			stream := newStreamOf(t, ctx, clientWith("ignored", s2.ClientOptions{Compression: compression}), nil)
			body := strings.Repeat("compressible ", 10_000)
			must(stream.Append(ctx, batch(body)))(t)
			session := must(stream.AppendSession(ctx, nil))(t)
			equal(t, ackOf(t, ctx, submit(t, ctx, session, batch(body))).End.SeqNum, 2)
			succeeds(t, session.Close())
			equal(t, bodies(must(stream.Read(ctx, from(0)))(t).Records), body+" "+body)
			equal(t, bodies(readSession(t, ctx, stream, 2)), body+" "+body)
		})
	}
}
