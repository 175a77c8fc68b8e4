"""Python client of a gateway's admin API: `Client`, `AsyncClient` and the errors they raise."""

from loraplex.client.call import UploadPart as UploadPart
from loraplex.client.clients import AsyncClient as AsyncClient
from loraplex.client.clients import Client as Client
from loraplex.errors import LoraplexError as LoraplexError
