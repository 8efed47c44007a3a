// Single reads: where they start, where they stop, and what they say at the tail.

package grpc

import (
	"strings"
	"testing"

	"github.com/s2-streamstore/s2-sdk-go/s2"
)

func TestAReadStopsAtItsLimits(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	must(stream.Append(ctx, batch("a", "b", "c", "d")))(t)
	limited := func(seqNum uint64, limit s2.ReadLimit) string {
		t.Helper()
		return bodies(read(t, ctx, stream, &s2.ReadRequest{Start: s2.ReadStartSeqNum(seqNum), Limit: limit}))
	}
	equal(t, limited(1, s2.ReadLimit{Count: some(uint64(2))}), "b c")
	// Each record counts nine bytes.
	equal(t, limited(0, s2.ReadLimit{Bytes: some(uint64(27))}), "a b c")
	equal(t, limited(0, s2.ReadLimit{Bytes: some(uint64(26))}), "a b")
	equal(t, limited(0, s2.ReadLimit{Bytes: some(uint64(8))}), "")
	equal(t, bodies(read(t, ctx, stream, &s2.ReadRequest{Start: s2.ReadStartTailOffset(1)})), "d")
	equal(t, bodies(read(t, ctx, stream, &s2.ReadRequest{Start: s2.ReadStartTailOffset(99)})), "a b c d")
}

func TestAtAndBeyondTheTailTheAnswerIsTheTail(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	must(stream.Append(ctx, batch("a")))(t)
	for _, request := range []*s2.ReadRequest{from(1), from(9), {Start: s2.ReadStartSeqNum(9), Clamp: true}} {
		equal[s2.ReadOutput](t, must(stream.Read(ctx, request))(t).(s2.ReadOutputNextSeqNum), s2.ReadOutputNextSeqNum(1))
	}
}

func TestASingleReadHoldsOneMebibyte(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	for range 3 {
		must(stream.Append(ctx, batch(strings.Repeat("x", 500_000))))(t)
	}
	equal(t, len(read(t, ctx, stream, from(0))), 2)
	empty := make([]s2.AppendRecord, 1000)
	must(stream.Append(ctx, input(empty...)))(t)
	must(stream.Append(ctx, input(empty...)))(t)
	equal(t, len(read(t, ctx, stream, from(3))), 1000)
}

func TestCompressionChangesNothing(t *testing.T) {
	ctx := start(t)
	stream := newStreamOf(t, ctx, clientWith(t, "any", s2.WithCompression(true)), defaults())
	body := strings.Repeat("compressible ", 10_000)
	must(stream.Append(ctx, batch(body)))(t)
	sender, receiver, err := stream.AppendSession(ctx)
	succeeds(t, err)
	succeeds(t, sender.Send(batch(body)))
	equal(t, must(receiver.Recv())(t).EndSeqNum, 2)
	succeeds(t, sender.Close())
	equal(t, bodies(read(t, ctx, stream, from(0))), body+" "+body)
	equal(t, bodies(readSession(t, ctx, stream, 2)), body+" "+body)
}
