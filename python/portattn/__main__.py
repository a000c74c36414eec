"""`python -m portattn`: the same as `python -m portattn.info`."""

from portattn.info import main

main()
