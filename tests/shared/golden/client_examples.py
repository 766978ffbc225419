"""One example of every contract about clients and relays, with every field set."""

from datetime import date, timedelta

from shared.contracts import (
    AddClientKey,
    AuthenticateClient,
    AuthenticatedClient,
    Category,
    ChangeClient,
    CircuitState,
    ClientAnswered,
    ClientAuthenticated,
    ClientKeyRecord,
    ClientRecord,
    ClientRemoved,
    ClientResult,
    ClientRights,
    ClientsListed,
    DescribeClient,
    DescribeRelays,
    Latency,
    LatencyStep,
    ListClients,
    RegisterClient,
    RelaysDescribed,
    RelayState,
    RevokeClient,
    RevokeClientKey,
)
from shared.contracts.clients import Scope
from tests.shared.golden.ledger_examples import AT, EVENT

KEY = "3f0c7a4e-5a0e-4f5c-9b0e-2f8f1d0a7c11"
CLIENT = ClientRecord(
    client_id="shop",
    created_at=AT,
    senders=("@shop.example",),
    scopes=("send", "read"),
    networks=("192.0.2.0/24",),
    expires_at=AT,
    client_keys=(
        ClientKeyRecord(key_id=KEY, created_at=AT, expires_at=AT, last_used_on=date(2026, 11, 1)),
    ),
)
RIGHTS = ClientRights(
    senders=("@shop.example",),
    scopes=(Scope.SEND, Scope.READ),
    networks=("192.0.2.0/24",),
    expires_at=AT,
)
CLIENT_EXAMPLES = (
    AuthenticateClient(id=EVENT, client="shop", key="eyJhbGciOi", remote="192.0.2.1"),
    ClientAuthenticated(
        id=EVENT,
        client=AuthenticatedClient(
            id="shop", senders=("@shop.example",), scopes=("read", "send"), expires_at=AT
        ),
    ),
    ClientRemoved(id=EVENT, at=AT, client="shop", registered_at=AT - timedelta(days=1)),
    ListClients(id=EVENT, after="bakery", limit=10),
    ClientsListed(id=EVENT, clients=(CLIENT,), next="shop"),
    DescribeClient(id=EVENT, client_id="shop"),
    RegisterClient(id=EVENT, client_id="shop", rights=RIGHTS),
    ChangeClient(
        id=EVENT,
        client_id="shop",
        rights=RIGHTS,
        seen=RIGHTS.model_copy(update={"networks": ("192.0.2.7/32",)}),
    ),
    RevokeClient(id=EVENT, client_id="shop"),
    AddClientKey(id=EVENT, client_id="shop"),
    RevokeClientKey(id=EVENT, client_id="shop", key_id=KEY),
    ClientAnswered(
        id=EVENT,
        result=ClientResult.CREATED,
        client=CLIENT,
        key_id=KEY,
        api_key="eyJhbGciOi",
    ),
    DescribeRelays(id=EVENT),
    RelaysDescribed(
        id=EVENT,
        sender=KEY,
        started_at=AT,
        relays=(
            RelayState(
                relay="relay.example:587",
                category=Category.BULK,
                idle=1,
                busy=3,
                opening=1,
                mails=4,
                limit=8,
                max_connections=10,
                circuit=CircuitState.OPEN,
                pause_seconds=4.5,
                failures=2,
                rate=50.0,
            ),
        ),
        latencies=(
            Latency(
                category=Category.BULK,
                steps=(LatencyStep(seconds=0.5, count=90), LatencyStep(count=100)),
            ),
        ),
    ),
)
