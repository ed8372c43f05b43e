"""The table of rights: who may do what, with whose things."""

import pytest

from peft_studio.access.rights import RIGHTS, Right, may, require
from peft_studio.access.visitors import NOBODY, OWNER, Role, Visitor, asker, asking
from peft_studio.errors import NotAllowedError
from peft_studio.settings import Access

ANN, TEACHER = Visitor("v1", Role.VISITOR, "Ann"), Visitor("t", Role.TEACHER)


def test_every_way_of_being_run_has_its_rights() -> None:
    assert set(RIGHTS) == set(Access)


@pytest.mark.parametrize("access", list(Access))
@pytest.mark.parametrize("right", list(Right))
def test_nobody_may_nothing_and_visitors_leave_others_things_alone(access: Access, right: Right) -> None:
    assert not may(access, NOBODY, right) and not may(access, NOBODY, right, owner="", shared=True)
    if access is not Access.DEMO:
        assert not may(access, ANN, right, owner="v2") and not may(access, ANN, right, owner="")
        assert may(access, ANN, right, owner="v2", shared=True) <= (right in (Right.LOOK, Right.SEE))


def test_only_the_owner_names_files_of_the_machine() -> None:
    for access in Access:
        assert not any(may(access, who, Right.PATHS) for who in (ANN, TEACHER, NOBODY))
        assert may(access, OWNER, Right.PATHS)
    assert not may(Access.DEMO, OWNER, Right.TRAIN)


def test_a_refusal_says_who_one_is() -> None:
    require(Access.PUBLIC, Right.CHANGE, owner="v2")  # the app's own threads ask as its owner
    with asking(ANN), pytest.raises(NotAllowedError, match=r"You may not change a run.*somebody else.*a visitor"):
        require(Access.PUBLIC, Right.CHANGE, owner="v2")
    assert asker() is OWNER
