"""Generate goes on with a conversation."""

from peft_studio.ui.answers.generate import _reply


def test_an_answer_can_be_gone_on_with() -> None:
    done = {"done": True, "text": " Hello. "}
    told = _reply({"chat": True}, "hi", done)["reply"]
    assert told == "User: hi\n\nAssistant: Hello.\n\nUser: "
    again = _reply({"chat": True}, f"{told}and you?", {"done": True, "text": "Fine."})["reply"]
    assert again == f"{told}and you?\n\nAssistant: Fine.\n\nUser: "


def test_there_is_no_reply_to_what_is_no_answer_of_a_chat() -> None:
    assert _reply({}, "hi", {"done": True, "text": "x"}) == {}
    assert _reply({"chat": True}, "hi", {"done": False, "text": "x"}) == {}
    assert _reply({"chat": True}, "hi", {"done": True, "text": " "}) == {}
    assert _reply({"chat": True}, "User: a\n\nUser: b", {"done": True, "text": "x"}) == {}
