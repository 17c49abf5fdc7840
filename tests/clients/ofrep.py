"""Evaluates one flag of each type through the OpenFeature SDK and prints what it got. usage: ofrep.py BASE_URL"""

import json
import sys

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

api.set_provider(OFREPProvider(sys.argv[1]))
client = api.get_client()
context = EvaluationContext("u1", {"country": "DE"})


def shown(details):
    code = details.error_code.value if details.error_code else None
    return [details.value, details.variant, str(details.reason), code]


print(
    json.dumps(
        {
            "boolean": shown(client.get_boolean_details("bool-flag", False, context)),
            "string": shown(client.get_string_details("string-flag", "default", context)),
            "integer": shown(client.get_integer_details("int-flag", 0, context)),
            "float": shown(client.get_float_details("float-flag", 0.0, context)),
            "object": shown(client.get_object_details("object-flag", {}, context)),
            "targeted": shown(client.get_string_details("target-flag", "default", context)),
            "missing": shown(client.get_boolean_details("no-such-flag", True, context)),
            "mismatch": shown(client.get_boolean_details("string-flag", True, context)),
            "no_key": shown(client.get_string_details("split-flag", "default", EvaluationContext(None, {}))),
        }
    )
)
