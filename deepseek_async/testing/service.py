"""The service behind the HTTP face: from a recorded request to its reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .catalogue import list_models, retrieve_model
from .faults import Fault
from .fim import BETA_ONLY
from .reply import Reply, refusal
from .wire import JSON, NOT_FOUND, Body, WireError, decode_request, encode

if TYPE_CHECKING:
    from .account import Account
    from .fault_plan import FaultPlan
    from .model import EmulatedModel
    from .recorded import Recorded

_NO_FAULT = Fault()


class Service:
    """One account's view of the service, faults included.

    Attributes:
        account: Key, balance and concurrency.
        model: The model that answers.
        faults: What goes wrong with which request.
    """

    __slots__ = ("account", "faults", "model")

    def __init__(
        self, account: Account, model: EmulatedModel, faults: FaultPlan
    ) -> None:
        self.account = account
        self.model = model
        self.faults = faults

    def reply(self, recorded: Recorded, raw: bytes, authorization: str) -> Reply:
        """Return the reply to a request, spoilt by its fault if it has one."""
        fault = self.faults.next(recorded) or _NO_FAULT
        instead = fault.instead()
        if instead is not None:
            return instead
        try:
            self.account.authenticate(authorization)
            reply = self._answer(recorded, raw, fault)
        except WireError as error:
            reply = refusal(error)
        fault.bend(reply)
        return reply

    def _answer(self, recorded: Recorded, raw: bytes, fault: Fault) -> Reply:
        path = recorded.path.rstrip("/")
        beta = path.startswith("/beta/")
        route = path.removeprefix("/beta").removeprefix("/v1")
        if recorded.method == "GET":
            return self._look_up(route)
        if recorded.method != "POST" or not route.endswith("completions"):
            raise WireError(NOT_FOUND)
        self.account.admit()
        body = recorded.body or decode_request(raw)
        return self._complete(route, body, fault, beta=beta, size=len(raw))

    def _look_up(self, route: str) -> Reply:
        found: Body
        if route == "/user/balance":
            found = self.account.statement()
        elif route == "/models":
            found = list_models()
        elif route.startswith("/models/"):
            found = retrieve_model(route.removeprefix("/models/"))
        else:
            raise WireError(NOT_FOUND)
        return Reply(pieces=[encode(found)], content_type=JSON)

    def _complete(
        self, route: str, body: Body, fault: Fault, *, beta: bool, size: int
    ) -> Reply:
        if route == "/chat/completions":
            reply, model, usage = self.model.chat(
                body, beta=beta, size=size, fault=fault
            )
        elif route != "/completions":
            raise WireError(NOT_FOUND)
        elif not beta:
            raise WireError(400, BETA_ONLY)
        else:
            reply, model, usage = self.model.complete(body, size=size, fault=fault)
        self.account.pay(model, usage)
        return reply
