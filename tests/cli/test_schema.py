import json

from finetune.cli.app import main


def test_schema_prints_the_json_schema(capsys):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["required"] == ["task", "model", "dataset"]
    assert schema["$defs"]["Training"]["properties"]["learning_rate"]["exclusiveMinimum"] == 0
