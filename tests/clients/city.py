"""What the client programs in Python want structured output of: with what agents' models have, and no grammar whole."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, Field


class District(BaseModel):
    """A part of a city."""

    name: str
    bank: Literal["left", "right"]


class City(BaseModel):
    """A city."""

    name: str = Field(min_length=1)
    population: int = Field(gt=0)
    founded: date
    motto: str | None
    districts: list[District] = Field(max_length=20)


class Weather(BaseModel):
    """Say how warm it is in a city."""

    city: str
