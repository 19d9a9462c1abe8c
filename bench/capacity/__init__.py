"""`python -m bench.capacity`: what a load takes of cores, memory and money, by measured figures."""
