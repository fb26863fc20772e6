"""
Listen on ports, or try whether ports of others answer. Runs inside network namespaces.

    ports.py listen PORT…      until standard input ends; says "ready"
    ports.py try < JSON        [[address, port, seconds], …] → ["open" | "refused" | "dropped", …]
"""

import asyncio
import json
import sys


async def listen(ports: list[int]) -> None:
    servers = [await asyncio.start_server(lambda _, writer: writer.close(), None, port) for port in ports]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.close()


async def attempt(address: str, port: int, seconds: float) -> str:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), seconds)
    except TimeoutError:
        return "dropped"
    except ConnectionRefusedError:
        return "refused"
    writer.close()
    return "open"


async def attempts() -> list[str]:
    return await asyncio.gather(*(attempt(*one) for one in json.load(sys.stdin)))


if sys.argv[1] == "listen":
    asyncio.run(listen([int(port) for port in sys.argv[2:]]))
else:
    json.dump(asyncio.run(attempts()), sys.stdout)
