"""The stages of `hzlm prepare`, each a number of tasks that run by themselves, on any machine and in any order."""
