"""One connection to the gateway, on a bare socket: nothing is read that was not asked for."""

import asyncio
import socket
import struct

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends a reset."""
_SMALL_BYTES = 4096
_SEGMENT_BYTES = 1400
"""As on a network. With a loopback's 64 KiB the sender's kernel would take a megabyte and more."""


class Line:
    """Sends, receives, and ends as it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, address: tuple[str, int], *, small: bool) -> "Line":
        """Connects. small: neither kernel keeps much of what is not read."""
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if small:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BYTES)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def send(self, data: bytes) -> None:
        """Returns once the kernel has it all."""
        await self._loop.sock_sendall(self._sock, data)

    async def receive(self, most_bytes: int) -> bytes:
        """The next bytes; none at the end."""
        return await self._loop.sock_recv(self._sock, most_bytes)

    def close(self, *, reset: bool = False) -> None:
        """Ends the connection at once, in order or by a reset."""
        if reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()
