"""A slixmpp client that a test drives: one JSON object a line in, one a line out.

In:   {"id": 1, "do": "connect", ...}
Out:  {"id": 1, "ok": ...} or {"id": 1, "error": "..."} for each command, in the order in which they end, and
      {"event": "message" | "published" | "presence" | "roster" | "disconnected", ...} for whatever the server sends unasked.

Everything protocol-shaped is slixmpp's own work; this file only translates. It runs with Debian's slixmpp 1.8 and
with 1.17 from PyPI, whose `connect` differs. Subscriptions are never answered by themselves: the test does it.
"""

import asyncio
import base64
import io
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import slixmpp
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath

IQ_TIMEOUT_S = 8
NS_EVENT = "{http://jabber.org/protocol/pubsub#event}"


def out(**line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Puppet(slixmpp.ClientXMPP):
    def __init__(self, jid, password, ca, register, managed, interests):
        super().__init__(jid, password)
        self.ca_certs = Path(ca)
        self.registering = register
        self.registered = False
        self.roster.auto_authorize = None
        self.roster.auto_subscribe = False
        for plugin in ("xep_0030", "xep_0199", "xep_0203", "xep_0313", "xep_0363"):
            self.register_plugin(plugin)
        self.interests = interests
        if interests is not None:
            for plugin in ("xep_0060", "xep_0084", "xep_0115", "xep_0163", "xep_0172"):
                self.register_plugin(plugin)
            self.register_handler(Callback("every event of a node", StanzaPath("message/pubsub_event"), self.heard))
        if managed:
            self.register_plugin("xep_0198")
            self.add_event_handler("session_resumed", lambda _: self.settle(None))
            self.add_event_handler("sm_failed", lambda _: self.settle("stream management failed"))
        if register:
            self.register_plugin("xep_0077")
            self.add_event_handler("register", self.make_account)
            # COMPAT: slixmpp 1.8 keeps every iq but those of bind and session until the session starts, and so
            # waits for ever for the answer to a registration that it never sent.
            self._always_send_everything = True
        self.started = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", lambda _: self.settle(None))
        self.add_event_handler("failed_all_auth", lambda _: self.settle("no mechanism was accepted"))
        self.add_event_handler("connection_failed", lambda reason: self.settle(f"not connected: {reason}"))
        self.add_event_handler("ssl_invalid_chain", lambda error: self.settle(f"certificate: {error}"))
        self.add_event_handler("stream_error", lambda error: self.settle(f"stream error: {error['condition']}"))
        self.add_event_handler("disconnected", self.gone)
        self.add_event_handler("message", self.told)
        self.add_event_handler("roster_update", self.listed)
        self.register_handler(Callback("every presence", StanzaPath("presence"), self.seen))

    def settle(self, trouble):
        if self.started.done():
            return
        if trouble is None:
            self.started.set_result(None)
        else:
            self.started.set_exception(RuntimeError(trouble))

    async def make_account(self, _form):
        """XEP-0077 as slixmpp does it: on the <register/> stream feature, before authentication."""
        iq = self.Iq()
        iq["type"] = "set"
        iq["register"]["username"] = self.boundjid.user
        iq["register"]["password"] = self.password
        try:
            await iq.send(timeout=IQ_TIMEOUT_S)
            self.registered = True
        except IqError as error:
            self.settle(f"not registered: {error.condition}")
        finally:
            self._always_send_everything = False

    def gone(self, reason):
        self.settle(f"disconnected: {reason}")
        out(event="disconnected", reason=str(reason or ""))

    async def announce(self):
        """XEP-0163 §4.2: what it wants to hear of is in its capabilities, which the next presence has."""
        for node in self.interests:
            added = self["xep_0030"].add_feature(f"{node}+notify")
            if asyncio.iscoroutine(added):
                await added
        await self["xep_0115"].update_caps(broadcast=False)

    def heard(self, message):
        items = message.xml.find(f"{NS_EVENT}event/{NS_EVENT}items")
        if items is None:
            return
        out(
            event="published",
            **{"from": str(message["from"])},
            node=items.get("node"),
            items={item.get("id"): ElementTree.tostring(item[0], "unicode") for item in items if len(item) > 0},
            retracted=[item.get("id") for item in items.findall(f"{NS_EVENT}retract")],
        )

    def told(self, message):
        stamp = message["delay"]["stamp"] if message.get_plugin("delay", check=True) else None
        out(
            event="message",
            type=message["type"],
            **{"from": str(message["from"])},
            to=str(message["to"]),
            body=message["body"],
            delay=stamp.isoformat() if stamp else None,
        )

    def seen(self, presence):
        out(
            event="presence",
            type=presence.xml.get("type", ""),
            **{"from": str(presence["from"])},
            show=presence.xml.findtext("{jabber:client}show", ""),
            status=presence["status"],
        )

    def listed(self, iq):
        if iq["type"] == "set":
            out(event="roster", items=items_of(iq))


def items_of(iq):
    return {
        str(jid): {"name": item["name"], "subscription": item["subscription"], "ask": item["ask"], "groups": list(item["groups"])}
        for jid, item in iq["roster"]["items"].items()
    }


class Driver:
    def __init__(self):
        self.client = None

    async def connect(self, jid, password, host, port, ca, direct_tls=False, register=False, managed=False, interests=None):
        client = self.client = Puppet(jid, password, ca, register, managed, interests)
        self.address = (host, port, direct_tls)
        await self.dial()
        roster = await self.roster()
        if interests is not None:
            await client.announce()
        client.send_presence()
        mechanism = client["feature_mechanisms"].mech
        return {
            "jid": client.boundjid.full,
            "mechanism": mechanism.name if mechanism else "",
            "tls": client.transport.get_extra_info("ssl_object").version(),
            "registered": client.registered,
            "roster": roster,
            "slixmpp": slixmpp.__version__,
        }

    async def dial(self):
        client = self.client
        host, port, direct_tls = self.address
        if hasattr(client, "enable_direct_tls"):  # 1.9 and later
            client.enable_direct_tls = direct_tls
            client.enable_starttls = not direct_tls
            client.enable_plaintext = False
            client.connect(host, port)
        else:
            client.connect((host, port), use_ssl=direct_tls, force_starttls=not direct_tls)
        try:
            await asyncio.wait_for(client.started, IQ_TIMEOUT_S)
        finally:
            client.cancel_connection_attempt()  # it would try again by itself

    async def cut(self):
        """The connection breaks: no closing tag, nothing that was still to be written."""
        client = self.client
        gone = asyncio.get_running_loop().create_future()
        client.add_event_handler("disconnected", lambda _: gone.done() or gone.set_result(None))
        client.transport.abort()
        await asyncio.wait_for(gone, IQ_TIMEOUT_S)

    async def resume(self, host, port):
        """XEP-0198 as slixmpp does it, when it connects again: the session goes on, or an error says that it does not."""
        client = self.client
        client.started = asyncio.get_running_loop().create_future()
        self.address = (host, port, False)
        await self.dial()
        return {"jid": client.boundjid.full, "previd": client["xep_0198"].sm_id, "unacked": len(client["xep_0198"].unacked_queue)}

    async def send(self, to, body):
        self.client.send_message(mto=to, mbody=body, mtype="chat")

    async def presence(self, show=None, status=None):
        self.client.send_presence(pshow=show, pstatus=status)

    async def subscription(self, to, type):
        self.client.send_presence(pto=to, ptype=type)

    async def roster(self):
        """The whole roster: slixmpp's own get_roster names the version it has and may be told "nothing new" (RFC 6121 §2.6)."""
        iq = self.client.Iq()
        iq["type"] = "get"
        iq.enable("roster")
        return items_of(await iq.send(timeout=IQ_TIMEOUT_S))

    async def update(self, jid, name=None, subscription=None, groups=()):
        iq = self.client.Iq()
        iq["type"] = "set"
        iq["roster"]["items"] = {jid: {"name": name, "subscription": subscription, "groups": list(groups)}}
        await iq.send(timeout=IQ_TIMEOUT_S)

    async def disco(self, jid):
        info = (await self.client["xep_0030"].get_info(jid=jid, timeout=IQ_TIMEOUT_S))["disco_info"]
        return {
            "identities": [f"{category}/{type}" for category, type, _lang, _name in info["identities"]],
            "features": sorted(info["features"]),
        }

    async def ping(self, jid):
        return await self.client["xep_0199"].ping(jid=jid, timeout=IQ_TIMEOUT_S)

    async def archive(self, peer=None, reverse=False):
        """All of one's own archive, or what was said with a peer, in slixmpp's own pages of ten."""
        messages = []
        async for message in self.client["xep_0313"].iterate(with_jid=peer, reverse=reverse):
            result = message["mam_result"]
            original = result["forwarded"]["stanza"]
            messages.append({
                "id": result["id"],
                "from": str(original["from"]),
                "body": original["body"],
                "stamp": result["forwarded"]["delay"]["stamp"].isoformat(),
            })
        return messages

    async def upload(self, name, data, type):
        """XEP-0363 as slixmpp does it; `data` is base64."""
        file = io.BytesIO(base64.b64decode(data))
        plugin = self.client["xep_0363"]
        # COMPAT: slixmpp 1.8 cannot find the service by itself with Python 3.11, whose asyncio.wait takes no coroutines.
        info = await self.client["xep_0030"].get_info(jid=self.client.boundjid.domain, timeout=IQ_TIMEOUT_S)
        identities = [identity[:2] for identity in info["disco_info"]["identities"]]
        if ("store", "file") in identities and "urn:xmpp:http:upload:0" in info["disco_info"]["features"]:
            plugin.upload_service = info["from"]
        return await plugin.upload_file(name, content_type=type, input_file=file, timeout=IQ_TIMEOUT_S)

    async def publish(self, node, item, payload, options=None):
        form = None
        if options is not None:
            form = self.client["xep_0004"].make_form(ftype="submit")
            form.add_field(var="FORM_TYPE", ftype="hidden", value="http://jabber.org/protocol/pubsub#publish-options")
            for name, value in options.items():
                form.add_field(var=f"pubsub#{name}", value=value)
        element = ElementTree.fromstring(payload)
        await self.client["xep_0060"].publish(None, node, id=item, payload=element, options=form, timeout=IQ_TIMEOUT_S)

    async def retract(self, node, item):
        await self.client["xep_0060"].retract(None, node, item, notify="1", timeout=IQ_TIMEOUT_S)

    async def items(self, jid, node):
        answer = await self.client["xep_0060"].get_items(jid, node, timeout=IQ_TIMEOUT_S)
        return {item["id"]: ElementTree.tostring(item["payload"], "unicode") for item in answer["pubsub"]["items"]}

    async def avatar(self, data, options):
        """XEP-0084 as slixmpp does it; `data` is base64."""
        picture = base64.b64decode(data)
        plugin = self.client["xep_0084"]
        id = plugin.generate_id(picture)
        form = self.client["xep_0004"].make_form(ftype="submit")
        form.add_field(var="FORM_TYPE", ftype="hidden", value="http://jabber.org/protocol/pubsub#publish-options")
        for name, value in options.items():
            form.add_field(var=f"pubsub#{name}", value=value)
        await plugin.publish_avatar(picture, options=form, timeout=IQ_TIMEOUT_S)
        info = {"id": id, "type": "image/png", "bytes": str(len(picture))}
        await plugin.publish_avatar_metadata([info], options=form, timeout=IQ_TIMEOUT_S)
        return id

    async def avatar_of(self, jid, item):
        """The picture, in base64."""
        answer = await self.client["xep_0084"].retrieve_avatar(jid, item, timeout=IQ_TIMEOUT_S)
        items = list(answer["pubsub"]["items"])
        return base64.b64encode(items[0]["avatar_data"]["value"]).decode()

    async def disconnect(self):
        await self.client.disconnect()


async def obey(driver, line):
    command = json.loads(line)
    id, do = command.pop("id"), command.pop("do")
    try:
        out(id=id, ok=await getattr(driver, do)(**command))
    except IqError as error:
        out(id=id, error=error.condition)
    except IqTimeout:
        out(id=id, error=f"no answer within {IQ_TIMEOUT_S} s")
    except asyncio.TimeoutError:
        out(id=id, error=f"not online within {IQ_TIMEOUT_S} s")
    except Exception as error:  # the test is to see whatever went wrong
        out(id=id, error=f"{type(error).__name__}: {error}")


async def main():
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    driver = Driver()
    while line := await commands.readline():  # end of input: the test is gone
        await obey(driver, line)


asyncio.run(main())
