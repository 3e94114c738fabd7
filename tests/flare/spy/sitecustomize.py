"""Where FLARE's server starts with this folder in PYTHONPATH, it writes down what it relays between sites."""

import os

if "DNNEXT_SPY" in os.environ:
    from nvflare.fuel.f3.cellnet.core_cell import CoreCell
    from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey

    forward = CoreCell._forward

    def noted(self, endpoint, origin, destination, msg_type, message):
        """As `_forward`; one line per message."""
        if message.get_header(MessageHeaderKey.CHANNEL) == "dnnext":
            is_closed = bool(message.get_header(MessageHeaderKey.ENCRYPTED))
            with open(os.environ["DNNEXT_SPY"], "a") as file:
                file.write(f"{int(is_closed)} {bytes(message.payload).hex()}\n")
        return forward(self, endpoint, origin, destination, msg_type, message)

    CoreCell._forward = noted
