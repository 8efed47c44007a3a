// Basins, streams, access tokens: made, listed, configured, deleted, and what is refused.

package rest

import (
	"fmt"
	"testing"
	"time"

	"github.com/s2-streamstore/s2-sdk-go/s2"
)

func TestBasinsAreMadeListedConfiguredAndDeleted(t *testing.T) {
	ctx, s := start(t), client()
	prefix := unique("go")
	for i := range 3 {
		name := s2.BasinName(fmt.Sprintf("%s-%d", prefix, i))
		info := must(s.Basins.Create(ctx, s2.CreateBasinArgs{Basin: name}))(t)
		equal(t, info.Name, name)
		if info.DeletedAt != nil || time.Since(info.CreatedAt).Abs() > time.Hour {
			t.Fatalf("created at %v, deleted at %v", info.CreatedAt, info.DeletedAt)
		}
	}
	page := must(s.Basins.List(ctx, &s2.ListBasinsArgs{Prefix: prefix, Limit: s2.Ptr(2)}))(t)
	equal(t, len(page.Basins), 2)
	equal(t, page.HasMore, true)
	page = must(s.Basins.List(ctx, &s2.ListBasinsArgs{Prefix: prefix, StartAfter: prefix + "-1"}))(t)
	equal(t, len(page.Basins), 1)
	equal(t, page.HasMore, false)

	name := s2.BasinName(prefix + "-0")
	express := s2.StorageClassExpress
	change := s2.BasinReconfiguration{
		CreateStreamOnAppend: s2.Bool(true),
		DefaultStreamConfig: &s2.StreamReconfiguration{
			StorageClass:    &express,
			RetentionPolicy: &s2.RetentionPolicy{Age: s2.Int64(77)},
		},
	}
	must(s.Basins.Reconfigure(ctx, s2.ReconfigureBasinArgs{Basin: name, Config: change}))(t)
	config := must(s.Basins.GetConfig(ctx, name))(t)
	equal(t, *config.CreateStreamOnAppend, true)
	equal(t, *config.CreateStreamOnRead, false)
	equal(t, *config.DefaultStreamConfig.StorageClass, express)
	equal(t, *config.DefaultStreamConfig.RetentionPolicy.Age, 77)
	must(s.Basin(string(name)).Stream("made/by append").Append(ctx, batch("a")))(t)
	config = must(s.Basins.Reconfigure(ctx, s2.ReconfigureBasinArgs{
		Basin: name, Config: s2.BasinReconfiguration{ClearDefaultStreamConfig: true},
	}))(t)
	if config.DefaultStreamConfig != nil && config.DefaultStreamConfig.RetentionPolicy != nil {
		t.Fatalf("not cleared: %+v", config.DefaultStreamConfig)
	}

	succeeds(t, s.Basins.Delete(ctx, name))
	left := s.Basins.Iter(ctx, &s2.ListBasinsArgs{Prefix: prefix, Limit: s2.Ptr(1)})
	count := 0
	for left.Next() {
		count++
	}
	succeeds(t, left.Err())
	equal(t, count, 2)
	_, err := s.Basins.Create(ctx, s2.CreateBasinArgs{Basin: name})
	refused(t, err, 409, "basin_deletion_pending")
}

func TestStreamsAreMadeListedConfiguredAndDeleted(t *testing.T) {
	ctx := start(t)
	basin := newBasin(t, ctx, client(), nil)
	for i := range 7 {
		// A slash, a space and letters beyond ASCII: each has to survive the path.
		name := s2.StreamName(fmt.Sprintf("dir %d/é%d", i/4, i))
		info := must(basin.Streams.Create(ctx, s2.CreateStreamArgs{Stream: name}))(t)
		equal(t, info.Name, name)
	}
	page := must(basin.Streams.List(ctx, &s2.ListStreamsArgs{Prefix: "dir 0/", Limit: s2.Ptr(3)}))(t)
	equal(t, len(page.Streams), 3)
	equal(t, page.HasMore, true)
	all := basin.Streams.Iter(ctx, &s2.ListStreamsArgs{Limit: s2.Ptr(2)})
	count := 0
	for all.Next() {
		count++
	}
	succeeds(t, all.Err())
	equal(t, count, 7)

	name := s2.StreamName("dir 0/é0")
	arrival := s2.TimestampingModeArrival
	got := must(basin.Streams.Reconfigure(ctx, s2.ReconfigureStreamArgs{Stream: name, Config: s2.StreamReconfiguration{
		RetentionPolicy: &s2.RetentionPolicy{Infinite: &s2.InfiniteRetention{}},
		Timestamping:    &s2.TimestampingReconfiguration{Mode: &arrival, Uncapped: s2.Bool(true)},
		DeleteOnEmpty:   &s2.DeleteOnEmptyReconfiguration{MinAgeSecs: s2.Int64(9)},
	}}))(t)
	equal(t, *got.Timestamping.Mode, arrival)
	got = must(basin.Streams.GetConfig(ctx, name))(t)
	if got.RetentionPolicy.Infinite == nil || got.RetentionPolicy.Age != nil {
		t.Fatalf("got %+v", got.RetentionPolicy)
	}
	equal(t, *got.Timestamping.Uncapped, true)
	equal(t, *got.DeleteOnEmpty.MinAgeSecs, 9)
	got = must(basin.Streams.Reconfigure(ctx, s2.ReconfigureStreamArgs{Stream: name, Config: s2.StreamReconfiguration{
		ClearRetentionPolicy: true, Timestamping: &s2.TimestampingReconfiguration{ClearMode: true},
	}}))(t)
	equal(t, *got.RetentionPolicy.Age, 604800)
	equal(t, *got.Timestamping.Mode, s2.TimestampingModeClientPrefer)
	equal(t, *got.Timestamping.Uncapped, true)

	succeeds(t, basin.Streams.Delete(ctx, name))
	left := must(basin.Streams.List(ctx, &s2.ListStreamsArgs{Prefix: string(name)}))(t).Streams
	if len(left) > 0 && left[0].DeletedAt == nil {
		t.Fatal("deleted, and listed as if it were not")
	}
}

func TestADeletedStreamMadeAgainStartsFromZero(t *testing.T) {
	ctx := start(t)
	basin := newBasin(t, ctx, client(), nil)
	again := s2.CreateStreamArgs{Stream: "again"}
	must(basin.Streams.Create(ctx, again))(t)
	must(basin.Stream("again").Append(ctx, batch("old")))(t)
	succeeds(t, basin.Streams.Delete(ctx, "again"))
	// The name stays taken until the records are gone.
	for {
		_, err := basin.Streams.Create(ctx, again)
		if err == nil {
			break
		}
		refused(t, err, 409, "stream_deletion_pending")
		time.Sleep(50 * time.Millisecond)
	}
	equal(t, must(basin.Stream("again").Append(ctx, batch("new")))(t).Start.SeqNum, 0)
}

func TestEnsureSaysWhatItDid(t *testing.T) {
	ctx, s := start(t), client()
	name := s2.BasinName(unique("go"))
	ensured := must(s.Basins.Ensure(ctx, s2.EnsureBasinArgs{Basin: name}))(t)
	equal(t, ensured.Result, s2.ProvisionResultCreated)
	appendable := &s2.BasinConfig{CreateStreamOnAppend: s2.Bool(true)}
	ensured = must(s.Basins.Ensure(ctx, s2.EnsureBasinArgs{Basin: name, Config: appendable}))(t)
	equal(t, ensured.Result, s2.ProvisionResultUpdated)
	ensured = must(s.Basins.Ensure(ctx, s2.EnsureBasinArgs{Basin: name, Config: appendable}))(t)
	equal(t, ensured.Result, s2.ProvisionResultNoop)
	streams := s.Basin(string(name)).Streams
	stream := must(streams.Ensure(ctx, s2.EnsureStreamArgs{Stream: "s"}))(t)
	equal(t, stream.Result, s2.ProvisionResultCreated)
	stream = must(streams.Ensure(ctx, s2.EnsureStreamArgs{Stream: "s"}))(t)
	equal(t, stream.Result, s2.ProvisionResultNoop)
}

func TestWhatIsMissingOrTakenHasItsCode(t *testing.T) {
	ctx, s := start(t), client()
	basin := newBasin(t, ctx, s, nil)
	_, err := s.Basins.Create(ctx, s2.CreateBasinArgs{Basin: s2.BasinName(basin.Name())})
	refused(t, err, 409, "resource_already_exists")
	must(basin.Streams.Create(ctx, s2.CreateStreamArgs{Stream: "taken"}))(t)
	_, err = basin.Streams.Create(ctx, s2.CreateStreamArgs{Stream: "taken"})
	refused(t, err, 409, "resource_already_exists")
	refused(t, basin.Streams.Delete(ctx, "missing"), 404, "stream_not_found")
	_, err = basin.Stream("missing").CheckTail(ctx)
	refused(t, err, 404, "stream_not_found")
	_, err = basin.Stream("missing").Append(ctx, batch("a"))
	refused(t, err, 404, "stream_not_found")

	nowhere := unique("nowhere")
	_, err = s.Basins.GetConfig(ctx, s2.BasinName(nowhere))
	refused(t, err, 404, "basin_not_found")
	refused(t, s.Basins.Delete(ctx, s2.BasinName(nowhere)), 404, "basin_not_found")
	_, err = s.Basin(nowhere).Streams.List(ctx, nil)
	refused(t, err, 404, "basin_not_found")
	_, err = s.Basin(nowhere).Stream("s").Append(ctx, batch("a"))
	refused(t, err, 404, "basin_not_found")
}

func TestATokenIsIssuedListedUsedAndRevoked(t *testing.T) {
	ctx, s := start(t), client()
	basin := newBasin(t, ctx, s, nil)
	id := s2.AccessTokenID(unique("go"))
	expiry := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	issued := must(s.AccessTokens.Issue(ctx, s2.IssueAccessTokenArgs{
		ID: id,
		Scope: s2.AccessTokenScope{
			Basins:   &s2.ResourceSet{Exact: s2.String(basin.Name())},
			Streams:  &s2.ResourceSet{Prefix: s2.String("mine/")},
			OpGroups: &s2.PermittedOperationGroups{Basin: &s2.ReadWritePermissions{Read: true, Write: true}},
			Ops:      []string{s2.OperationAppend, s2.OperationRead},
		},
		AutoPrefixStreams: true,
		ExpiresAt:         &expiry,
	}))(t)
	listed := must(s.AccessTokens.List(ctx, &s2.ListAccessTokensArgs{Prefix: string(id)}))(t)
	equal(t, len(listed.AccessTokens), 1)
	equal(t, listed.AccessTokens[0].ID, id)
	equal(t, listed.AccessTokens[0].ExpiresAt.UTC(), expiry)
	equal(t, *listed.AccessTokens[0].Scope.Basins.Exact, basin.Name())
	equal(t, listed.AccessTokens[0].Scope.OpGroups.Basin.Write, true)

	holder := clientWith(issued.AccessToken, s2.ClientOptions{})
	ours := holder.Basin(basin.Name())
	must(ours.Streams.Create(ctx, s2.CreateStreamArgs{Stream: "s"}))(t)
	must(ours.Stream("s").Append(ctx, batch("a")))(t)
	equal(t, bodies(must(basin.Stream("mine/s").Read(ctx, from(0)))(t).Records), "a")
	_, err := ours.Stream("s").Append(ctx, command(s2.NewTrimCommandRecord(1, nil)))
	refused(t, err, 403, "permission_denied")
	_, err = holder.Basins.List(ctx, nil)
	refused(t, err, 403, "permission_denied")

	succeeds(t, s.AccessTokens.Revoke(ctx, s2.RevokeAccessTokenArgs{ID: id}))
	_, err = ours.Stream("s").Append(ctx, batch("b"))
	refused(t, err, 401, "authn")
	refused(t, s.AccessTokens.Revoke(ctx, s2.RevokeAccessTokenArgs{ID: id}), 404, "access_token_not_found")
}
