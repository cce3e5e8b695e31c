"""XML for homing: `encode` writes a request's body, `decode` reads an answer's. Both are pure functions.

An element with elements in it is an object, any other is its text; what stands twice is an array. Attributes are not looked at.
"""

from xml.etree import ElementTree as ET
from xml.parsers import expat

CONTENT_TYPE = "application/xml; charset=utf-8"


def encode(value: object) -> tuple[bytes, str]:
    """`{"Enquiry": {"Purpose": "RENT"}}` to XML. What is raised here refuses the call: nothing has been sent."""
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("an XML document has one root element")
    ((name, content),) = value.items()
    return ET.tostring(_element(name, content), encoding="utf-8", xml_declaration=True), CONTENT_TYPE


def decode(body: bytes) -> object:
    """XML to `{"Response": {"Status": "OK"}}`. What is raised here makes the answer invalid."""
    _refuse_doctype(body)
    root = ET.fromstring(body)
    return {root.tag: _value(root)}


def _element(name: str, content: object) -> ET.Element:
    element = ET.Element(name)
    if isinstance(content, dict):
        for child, inner in content.items():
            element.extend(_element(child, each) for each in (inner if isinstance(inner, list) else [inner]))
    else:
        element.text = str(content).lower() if isinstance(content, bool) else str(content)
    return element


def _value(element: ET.Element) -> object:
    if not len(element):
        return element.text or ""
    found: dict[str, object] = {}
    for child in element:
        value, before = _value(child), found.get(child.tag)
        if child.tag not in found:
            found[child.tag] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            found[child.tag] = [before, value]
    return found


def _refuse_doctype(body: bytes) -> None:
    """A document type can define entities that grow without end; no bureau needs one."""
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise ValueError("the document has a DOCTYPE")

    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(body, True)
