"""S2's own Python SDK against a server that requires access tokens."""

import pytest
import s2_sdk
from s2_sdk import S2, AppendInput, Endpoints, Record, S2ServerError, SeqNum

import millrace_process

ROOT = "the-root-token-of-the-sdk-tests"
pytestmark = pytest.mark.ours


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = millrace_process.Millrace(tmp_path_factory.mktemp("sdk-tokens") / "data")
    server.environment = {"MILLRACE_ROOT_TOKEN": ROOT}
    with server:
        yield server


@pytest.fixture
def connect(request, server):
    request.node.clients_open = []

    def make(secret):
        client = S2(secret, endpoints=Endpoints(account=server.target, basin=server.target))
        request.node.clients_open.append(client)
        return client

    return make


async def refusal(awaitable):
    with pytest.raises(S2ServerError) as caught:
        await awaitable
    return caught.value.status_code, caught.value.code


async def test_the_sdk_issues_lists_uses_and_revokes_tokens(connect):
    root = connect(ROOT)
    basin = await root.create_basin("a-basin-of-the-sdk")
    del basin
    secret = await root.issue_access_token(
        "sdk",
        scope=s2_sdk.AccessTokenScope(
            basins=s2_sdk.PrefixMatch(""),
            streams=s2_sdk.PrefixMatch("sdk/"),
            op_groups=s2_sdk.OperationGroupPermissions(
                basin=s2_sdk.Permission.READ_WRITE, stream=s2_sdk.Permission.READ_WRITE
            ),
        ),
        auto_prefix_streams=True,
    )
    page = await root.list_access_tokens()
    assert [info.id for info in page.items] == ["sdk"]
    ours = connect(secret)
    basin = ours.basin("a-basin-of-the-sdk")
    await basin.create_stream("s")
    stream = basin.stream("s")
    ack = await stream.append(AppendInput(records=[Record(body=b"x")]))
    assert ack.end.seq_num == 1
    batch = await stream.read(start=SeqNum(0))
    assert [record.body for record in batch.records] == [b"x"]
    assert [info.name for info in (await basin.list_streams()).items] == ["s"]
    assert [i.name for i in (await root.basin("a-basin-of-the-sdk").list_streams()).items] == ["sdk/s"]
    assert await refusal(ours.list_basins()) == (403, "permission_denied")
    await root.revoke_access_token("sdk")
    assert await refusal(basin.list_streams()) == (401, "authn")
    assert await refusal(connect("other").list_basins()) == (401, "authn")
